"""`mcastfast interfaces`: the network interfaces of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mcastfast
from mcastfast.commands import arguments
from mcastfast.commands.output import print_json, print_table

if TYPE_CHECKING:
    import argparse

    from mcastfast import Interface
    from mcastfast.commands.arguments import Subparsers

_DETAILS = """\
FLAGS are up, running (the link works), multicast, loopback, point-to-point. A
loopback interface carries multicast also where the flag is missing.

--json writes a list of objects with the keys index, name, mtu, up, running,
multicast, loopback, point_to_point, addresses.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = arguments.add_command(subparsers, "interfaces", "list the network interfaces of this host", _DETAILS)
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser


def run(args: argparse.Namespace) -> int:
    """List them."""
    objects = [_as_object(interface) for interface in mcastfast.interfaces()]
    if args.json:
        print_json(objects)
    else:
        headers = ("INDEX", "NAME", "MTU", "FLAGS", "ADDRESSES")
        print_table(headers, [_row(item) for item in objects], right=(0, 2))
    return 0


_FLAGS = ("up", "running", "multicast", "loopback", "point_to_point")


def _as_object(interface: Interface) -> dict[str, Any]:
    return {
        "index": interface.index,
        "name": interface.name,
        "mtu": interface.mtu,
        **{flag: getattr(interface, f"is_{flag}") for flag in _FLAGS},
        "addresses": [str(address) for address in interface.addresses],
    }


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    flags = ",".join(flag.replace("_", "-") for flag in _FLAGS if item[flag])
    return str(item["index"]), item["name"], str(item["mtu"]), flags or "down", " ".join(item["addresses"]) or "-"
