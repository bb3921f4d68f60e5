"""`mcastfast bench`: multicast over the loopback interface, received by mcastfast and by socket.recvfrom."""

from __future__ import annotations

from socket import AF_INET
from typing import TYPE_CHECKING, Any

from mcastfast.commands import arguments
from mcastfast.commands.bench_methods import BASE, METHODS, Method
from mcastfast.commands.output import print_json, print_table
from mcastfast.commands.payloads import LARGEST, check_size
from mcastfast.commands.progress import announce, choose_display, in_bytes
from mcastfast.commands.stopping import Stop
from mcastfast.errors import CURRENT, UnsupportedError
from mcastfast.options import MEMORY

if TYPE_CHECKING:
    import argparse

    from mcastfast.commands.arguments import Subparsers
    from mcastfast.commands.bench_runs import Drains, Live, Setting

_DETAILS = """\
Needs no network, no privileges and no set-up: datagrams are multicast with
TTL 0 by the loopback interface, to a group chosen at random. None leaves the
host, which is checked before the first is sent.

live    Another process sends as fast as it can, to one receiver after the
        other, as many datagrams to each as to the first. Lost are those that
        the kernel dropped because the receiver's buffer was full. CPU is the
        time of the receiving thread, the kernel's share included, in
        nanoseconds a datagram.
drain   The same datagrams wait in a socket of each receiver, and the time to
        take them out is measured, in shuffled rounds. The median is what a
        datagram costs, in nanoseconds, when nothing else runs.

--json writes one object: what was set, and each receiver's figures.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = arguments.add_command(
        subparsers, "bench", "send and receive over the loopback interface, beside socket.recvfrom", _DETAILS
    )
    parser.add_argument(
        "--size", type=arguments.size, default=256, metavar="SIZE", help="bytes a datagram (default: 256)"
    )
    parser.add_argument(
        "-t", "--duration", type=arguments.seconds, default=2.0, metavar="SECONDS", help="of each live run (default: 2)"
    )
    parser.add_argument("-c", "--count", type=arguments.count, metavar="N", help="datagrams at most in each live run")
    arguments.add_engine_option(parser)
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments.add_quiet_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure and report."""
    import random

    from mcastfast.commands.bench_runs import Setting, run_drains, run_lives

    check_size(args.size, LARGEST[4])
    if not MEMORY.supported(AF_INET):
        raise UnsupportedError(f"bench counts what the system dropped, and {CURRENT} does not tell: it runs on Linux")
    group = f"239.255.{random.randrange(256)}.{random.randrange(1, 255)}:{random.randrange(20000, 30000)}"
    setting = Setting(group, args.size, args.engine, args.duration, args.count)
    with Stop() as stop:
        announce(f"sending to {group} over loopback, {args.size} bytes a datagram", quiet=args.quiet)
        drains = run_drains(setting, stop)
        lives = run_lives(setting, lambda: choose_display(quiet=args.quiet), stop)
    if args.json:
        print_json(_as_object(setting, drains, lives))
    else:
        _print_report(setting, drains, lives)
    return 0


def _as_object(setting: Setting, drains: Drains, lives: list[Live]) -> dict[str, Any]:
    return {
        "group": setting.group,
        "size": setting.size,
        "engine": setting.engine,
        "receive_buffer": drains.buffer,
        "drain_depth": drains.depth,
        "drain_rounds": drains.rounds,
        "receivers": [
            {
                "name": method.title,
                "offered": live.offered,
                "received": live.received,
                "kernel_drops": live.kernel_drops,
                "unaccounted": live.unaccounted,
                "seconds": live.seconds,
                "datagrams_per_second": _per(live.received, live.seconds),
                "cpu_ns_per_datagram": _per(live.cpu * 1e9, live.received),
                "drain_ns_per_datagram": drains.nanoseconds[method.name],
            }
            for method, live in zip(METHODS, lives, strict=True)
        ],
    }


def _per(amount: float, number: float) -> float | None:
    return amount / number if number else None


def _print_report(setting: Setting, drains: Drains, lives: list[Live]) -> None:
    print_table(
        ("receiver", "offered", "received", "lost", "datagrams/s", "CPU ns", "drain ns", "drain speed"),
        [_row(method, drains, live) for method, live in zip(METHODS, lives, strict=True)],
        right=range(1, 8),
    )
    print(
        f"\n{setting.size}-byte datagrams; live: offered at full rate by another process; "
        f"drain: median of {drains.rounds} queues of {drains.depth}.\n"
        f"Receive buffer {in_bytes(drains.buffer)}. {_account(lives)}"
    )


def _row(method: Method, drains: Drains, live: Live) -> tuple[str, ...]:
    rate, cpu = _per(live.received, live.seconds), _per(live.cpu * 1e9, live.received)
    drain = drains.nanoseconds[method.name]
    return (
        method.title,
        f"{live.offered:,}",
        f"{live.received:,}",
        f"{live.offered - live.received:,}",
        f"{rate:,.0f}" if rate else "-",
        f"{cpu:,.0f}" if cpu else "-",
        f"{drain:,.0f}",
        f"{drains.nanoseconds[BASE.name] / drain:.2f} x",
    )


def _account(lives: list[Live]) -> str:
    unaccounted = sum(abs(live.unaccounted) for live in lives)
    if unaccounted:
        return f"{unaccounted:,} datagrams are unaccounted for: neither received nor counted as dropped by the kernel."
    return "Every datagram is accounted for: offered = received + dropped by the kernel."
