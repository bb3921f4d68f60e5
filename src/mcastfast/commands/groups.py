"""`mcastfast groups`: what this host has joined, by interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcastfast import interfaces
from mcastfast.commands import arguments
from mcastfast.commands.output import print_json, print_table
from mcastfast.hostgroups import HostMembership, Sources, host_memberships

if TYPE_CHECKING:
    import argparse

    from mcastfast.commands.arguments import Subparsers

_DETAILS = """\
The kernel's own view, of all processes.
  USERS      memberships of sockets and of the kernel itself
  PROTOCOL   the version of IGMP or MLD on the interface, where it is told
  SOURCES    those that somebody has joined, and, after "not", those that
             somebody blocks; "not told" where the kernel keeps them to itself:
             it may list none on an interface where the last group that was
             joined has none

--json writes a list of objects with the keys interface, index, group, users,
version, included, excluded; the last two are null where sources are not told.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = arguments.add_command(
        subparsers, "groups", "list the groups that this host has joined, by interface", _DETAILS
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("-i", "--interface", metavar="NAME", help="only this one, by its name")
    return parser


def run(args: argparse.Namespace) -> int:
    """List them."""
    found = sorted(host_memberships(), key=lambda membership: membership.index)
    if args.interface is not None:
        known = {interface.name for interface in interfaces()}
        if args.interface not in known:
            raise ValueError(f"unknown interface {args.interface!r}: this host has {', '.join(sorted(known))}")
        found = [membership for membership in found if membership.interface == args.interface]
    if args.json:
        print_json([_as_object(membership) for membership in found])
    else:
        headers = ("INTERFACE", "GROUP", "USERS", "PROTOCOL", "SOURCES")
        print_table(headers, _rows(found), right=(2,))
    return 0


def _as_object(membership: HostMembership) -> dict[str, Any]:
    return {
        "interface": membership.interface,
        "index": membership.index,
        "group": str(membership.group),
        "users": membership.users,
        "version": membership.version,
        "included": _as_list(membership.included),
        "excluded": _as_list(membership.excluded),
    }


def _as_list(sources: Sources) -> list[str] | None:
    return None if sources is None else [str(source) for source in sources]


def _rows(found: list[HostMembership]) -> list[tuple[str, ...]]:
    """A row for each, the interface's name in its first only."""
    rows: list[tuple[str, ...]] = []
    previous = None
    for membership in found:
        name = "" if membership.index == previous else membership.interface
        previous = membership.index
        protocol = "MLD" if membership.group.version == 6 else "IGMP"
        version = f"v{membership.version}" if membership.version else ""
        rows.append((name, str(membership.group), str(membership.users), protocol + version, _sources(membership)))
    return rows


def _sources(membership: HostMembership) -> str:
    if membership.included is None:
        return "not told"
    parts = [", ".join(map(str, membership.included))] if membership.included else []
    if membership.excluded:
        parts.append(f"not {', '.join(map(str, membership.excluded))}")
    return "; ".join(parts) or "any"
