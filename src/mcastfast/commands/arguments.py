"""Options that several commands have, and how their values are written."""

from __future__ import annotations

import argparse
import math
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from mcastfast import ENGINES
from mcastfast.binding import BIND_MODES
from mcastfast.rate import COUNTS, Rate
from mcastfast.sizes import MOST_DIGITS, parse_octets

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_BINARY = {"": "B", "K": "KiB", "M": "MiB", "G": "GiB"}
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}

EXIT_CODES = """\
exit codes:
  0  done, also when a signal (Ctrl-C, SIGTERM) or the reader of a pipe ended it
  1  it failed, or was interrupted before it was done
  2  it was called wrongly
"""
"""What stands at the end of each help."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of what stands below the options, and gives the names of options more room."""

    def __init__(self, prog: str, **keywords: Any) -> None:
        super().__init__(prog, max_help_position=27, **keywords)
        self._action_max_length = 14  # the longest command's name, indented, which argparse forgets to count


def add_command(subparsers: Subparsers, name: str, summary: str, details: str) -> argparse.ArgumentParser:
    """The parser of a command; `details` stand below its options."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"{details}\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )


class Once(argparse.Action):
    """Stores a value, and refuses a second, of which argparse would forget the first."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Store the value."""
        del parser, option_string
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, f"is given twice; a group names its own, as GROUP%{values}")
        setattr(namespace, self.dest, values)


def add_end_options(parser: argparse.ArgumentParser) -> None:
    """When the command ends by itself."""
    parser.add_argument("-c", "--count", type=count, metavar="N", help="end after N datagrams")
    parser.add_argument("-t", "--duration", type=seconds, metavar="SECONDS", help="end after so many seconds")


def add_quiet_option(parser: argparse.ArgumentParser) -> None:
    """What goes to standard error besides errors."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def add_receiver_options(parser: argparse.ArgumentParser, *, max_datagram: int, has_ring: bool = False) -> None:
    """Keywords of Receiver that any receiving command has, but for the engine; `has_ring`: this one may be a ring."""
    parser.add_argument(
        "-s", "--source", action="append", metavar="ADDRESS", help="join this source only (SSM); may be repeated"
    )
    parser.add_argument(
        "--bind",
        choices=BIND_MODES,
        default="auto",
        help='what the socket binds: the group, so that nothing else arrives; "any" also takes unicast and broadcast '
        "to the port (default: auto, the group where there is one)",
    )
    parser.add_argument(
        "--no-strict",
        action="store_true",
        help="allow reserved groups (RFC 4607, RFC 4291), and any-source joins in the source-specific range (232/8, "
        "ff3x::/32)",
    )
    parser.add_argument(
        "--buffer",
        type=size,
        metavar="SIZE",
        help="receive buffer to ask the kernel for (default: 8M, or as much as it grants)",
    )
    parser.add_argument(
        "--batch-size",
        type=count,
        metavar="N",
        help=f"datagrams to take at once (default: 64; 1024 with --background{' or --engine packet' * has_ring})",
    )
    parser.add_argument(
        "--max-datagram",
        type=size,
        default=max_datagram,
        metavar="SIZE",
        help="bytes; longer datagrams are cut (default: %(default)s)",
    )
    parser.add_argument(
        "--background",
        type=size,
        metavar="SIZE",
        help="receive into so much memory in a thread of its own, such as 256M, so that a slow display or disk loses "
        "nothing before it is full",
    )


def add_engine_option(parser: argparse.ArgumentParser, *further: str) -> None:
    """How the system is asked; `further` engines that only this command may have."""
    parser.add_argument(
        "--engine", choices=("auto", *ENGINES, *further), default="auto", help="system calls to use (default: auto)"
    )


def add_sender_options(parser: argparse.ArgumentParser) -> None:
    """Keywords of Sender that any sending command has."""
    parser.add_argument(
        "--ttl",
        type=int,
        metavar="N",
        help="TTL or hop limit (default: 1, the local network); 0 stays on this host by the loopback interface alone",
    )
    parser.add_argument("--local", metavar="ADDRESS", help="address to send from (default: the interface's)")
    parser.add_argument(
        "--loopback",
        action=argparse.BooleanOptionalAction,
        help="whether this host's own receivers hear it (default: the system's, which is yes)",
    )
    parser.add_argument("--no-fragment", action="store_true", help="refuse datagrams that are over the MTU of the path")
    parser.add_argument(
        "--segment",
        action="store_true",
        help="send runs of datagrams of one size in one piece, which the kernel cuts (UDP_SEGMENT): many times as "
        "fast, but a full queue of the device may then drop part of a piece without a word",
    )


def add_rate_options(parser: argparse.ArgumentParser) -> None:
    """Keywords of Sender that pace it."""
    parser.add_argument(
        "-r", "--rate", type=rate, metavar="RATE", help='1000, 10k or 100_000/s datagrams a second, or "8 Mbit/s"'
    )
    parser.add_argument(
        "--burst",
        type=count,
        default=1,
        metavar="N",
        help="datagrams of --rate that may go at once (default: 1, each apart from the next)",
    )
    parser.add_argument(
        "--rate-counts",
        choices=tuple(COUNTS),
        default="payload",
        help="which bits a --rate in bits counts: those of the payload (default), or all that an Ethernet carries",
    )


def count(text: str) -> int:
    """A positive whole number, such as 1000 or 10k (thousands)."""
    match = re.fullmatch(r"([0-9]+)([KMGkmg]?)", text.replace(",", ""))
    number = int(match[1]) * _DECIMAL[match[2].lower()] if match and len(match[1]) <= MOST_DIGITS else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number, such as 1000 or 10k")
    return number


def seconds(text: str) -> float:
    """A positive time, such as 2.5."""
    try:
        number = float(text.removesuffix("s"))
    except ValueError:
        number = math.nan
    if not 0 < number <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds, such as 10 or 2.5")
    return number


def size(text: str) -> int:
    """Bytes, such as 1316, 64K or 8M, where K is 1024, or with a unit, such as 8MB or 8MiB.

    How much is too much is for whoever needs it to say.
    """
    match = re.fullmatch(r"([0-9.]+)([KMGkmg]?)", text)
    try:
        number = parse_octets(f"{match[1]}{_BINARY[match[2].upper()]}" if match else text, what="size")
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size in bytes, such as 1316, 64K, 8M or 8MiB")
    return number


def file(text: str) -> str:
    """The name of a file."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: name a file, or - for standard output")
    return text


def rate(text: str) -> Rate:
    """What Sender takes for a rate, such as 1000, 10k or 8Mbit/s."""
    try:
        return Rate.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("rate=")) from None
