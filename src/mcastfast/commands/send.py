"""`mcastfast send`: send standard input, a file, or generated datagrams to a group."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mcastfast.commands import arguments
from mcastfast.commands.outlet import Outlet, open_group
from mcastfast.commands.payloads import Generated, Lines, Pieces, check_size
from mcastfast.commands.progress import Progress, Sample, announce, choose_display
from mcastfast.commands.stopping import Stop

if TYPE_CHECKING:
    import argparse

    from mcastfast.commands.arguments import Subparsers
    from mcastfast.commands.payloads import Payloads

_BATCH = 64
_MOST_OVERHEAD = 86
"""Octets on an Ethernet besides the payload."""
_HOLD = 0.05
"""Seconds that a batch of several datagrams may take at the rate, in which the command looks for nothing else."""

_DETAILS = """\
what is sent:
  FILE       the file, in datagrams of --size bytes (the last may be shorter);
             - is standard input
  no FILE    standard input, in the same way; of what is typed on a terminal,
             each line
  no FILE, but --rate, --count or --duration
             generated datagrams of --size bytes: a number that counts up from
             0 (8 bytes, big-endian), then zeros; not where standard input is a
             pipe or a file: write - to send that, < /dev/null to generate
--lines makes a datagram of each line of the input, without its end; one that is
too long for a datagram ends it with exit code 1.
--rate is the most that is sent: datagrams (1000, 10k, 100_000/s) or bits
(8Mbit/s, "1 Gbit/s") a second, evenly spaced; --burst lets so many go at once.
What is late is made up for at 1.1 times the rate, up to a second's worth.
Without --rate, datagrams go as fast as they can.

What a full device queue refuses is sent again.
Ctrl-C ends it with a summary and exit code 0, which counts as "not sent" what
was to go just then and found no room.
The summary's rates are those from the first batch to the last, without what the
first one took.

examples:
  mcastfast send 239.1.2.3:5000 --interface eth0 --rate 1000 --size 200
  echo hello | mcastfast send 239.1.2.3:5000 --interface eth0
  mcastfast send 239.1.2.3:5004 movie.ts --rate 8Mbit/s --ttl 4
  ffmpeg -i movie.mp4 -f mpegts - | mcastfast send '[ff15::1%eth0]:5004'
  zcat movie.ts.gz | mcastfast send 239.1.2.3:5004 - --rate 8Mbit/s
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = arguments.add_command(
        subparsers, "send", "send standard input, a file, or generated datagrams to a group", _DETAILS
    )
    parser.add_argument("group", metavar="GROUP", help="group[%%interface]:port")
    parser.add_argument("file", nargs="?", metavar="FILE", help="what to send; - is standard input")
    division = parser.add_mutually_exclusive_group()
    division.add_argument(
        "--size",
        type=arguments.size,
        default=1316,
        metavar="SIZE",
        help="bytes a datagram (default: %(default)s, seven MPEG-TS packets)",
    )
    division.add_argument("--lines", action="store_true", help="send each line of the input as a datagram")
    arguments.add_rate_options(parser)
    arguments.add_end_options(parser)
    parser.add_argument("-p", "--port", type=int, metavar="PORT", help="port, if the group names none")
    parser.add_argument(
        "-i",
        "--interface",
        action=arguments.Once,
        metavar="NAME",
        help="name, index or address (default: the route decides)",
    )
    arguments.add_sender_options(parser)
    parser.add_argument("--no-strict", action="store_true", help="allow reserved groups (RFC 4607, RFC 4291)")
    parser.add_argument("--buffer", type=arguments.size, metavar="SIZE", help="send buffer to ask the kernel for")
    arguments.add_engine_option(parser)
    arguments.add_quiet_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Send until there is no more to send."""
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop())
        sender = stack.enter_context(
            open_group(
                args.group,
                args,
                interface=args.interface,
                send_buffer=args.buffer,
                port=args.port,
                rate=args.rate,
                burst=args.burst,
                rate_counts=args.rate_counts,
            )
        )
        outlet = Outlet(sender)
        check_size(args.size, outlet.largest)
        payloads, what = _open_payloads(args, outlet.largest, stack, stop)
        announce(f"sending {what} to {sender}", quiet=args.quiet)
        progress = stack.enter_context(
            Progress(lambda: Sample((outlet.sent,), outlet.losses), choose_display(quiet=args.quiet))
        )
        stop.end_after(args.duration)
        _send(outlet, payloads, _at_once(args, outlet.largest), stop, progress, args.count)
    return 0


def _at_once(args: argparse.Namespace, largest: int) -> int:
    """How many datagrams to hand to the sender at once: a burst, or as many as go in the time that nobody looks."""
    if not args.rate:
        return _BATCH
    size = largest if args.lines else args.size
    if args.rate_counts == "wire":
        size += _MOST_OVERHEAD
    burst: int = args.burst
    return max(burst, min(int(args.rate.datagrams(size) * _HOLD), _BATCH))


def _send(outlet: Outlet, payloads: Payloads, at_once: int, stop: Stop, progress: Progress, count: int | None) -> None:
    left = count
    while left != 0:
        outlet.await_turn(stop, progress)
        if stop.now:
            return
        batch = payloads.take(at_once if left is None else min(left, at_once))
        if not batch or stop.now:
            return
        if left is not None:
            left -= len(batch)
        outlet.send(batch, stop, progress)
        progress.tick(active=True)


def _open_payloads(
    args: argparse.Namespace, largest: int, stack: contextlib.ExitStack, stop: Stop
) -> tuple[Payloads, str]:
    """What to send, and how to call it."""
    generated = args.file is None and not args.lines and (args.rate or args.count or args.duration)
    if generated:
        _refuse_to_ignore_input()
        return Generated(args.size), f"generated datagrams of {args.size} bytes"
    if args.file in (None, "-"):
        stream, name = _standard_input(), "standard input"
    else:
        # A named pipe is waited for until somebody writes to it.
        nothing: io.BufferedReader = io.BufferedReader(io.BytesIO())
        file = stop.interruptibly(lambda: Path(args.file).open("rb"), nothing)  # noqa: SIM115 # the stack closes it
        stream, name = stack.enter_context(file), args.file
    if args.lines:
        return Lines(stream, largest, stop), f"the lines of {name}"
    return Pieces(stream, args.size, stop), f"{name}, {args.size} bytes a datagram,"


def _refuse_to_ignore_input() -> None:
    """Raise ValueError where somebody may have meant standard input to be sent."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # it is closed, or was replaced by something without a descriptor
        return
    if stat.S_ISFIFO(mode) or stat.S_ISREG(mode):
        raise ValueError(
            f"standard input is a {'pipe' if stat.S_ISFIFO(mode) else 'file'}, and without a FILE this would not send "
            f"it but generate datagrams: write - to send it, or < {os.devnull} to generate"
        )


def _standard_input() -> io.BufferedReader:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed: name a FILE")
    return cast("io.BufferedReader", sys.stdin.buffer)
