"""`mcastfast recv`: receive groups; show the rate, or write the data."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mcastfast.commands import arguments
from mcastfast.commands.checking import Check
from mcastfast.commands.intake import Intake, describe_joins, open_groups
from mcastfast.commands.output import forget, print_error, reopen_stdout
from mcastfast.commands.progress import Progress, Sample, announce, choose_display
from mcastfast.commands.silence import Silence
from mcastfast.commands.stopping import Stop
from mcastfast.commands.writers import HexWriter, JsonWriter, PayloadWriter
from mcastfast.reception import available

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcastfast import Batch
    from mcastfast.commands.arguments import Subparsers
    from mcastfast.commands.writers import Writer

_DETAILS = """\
GROUP may begin with udp:// or rtp://, which changes nothing: payloads are shown
and written whole, with the headers of RTP where they have such.

--json writes an object for each datagram, one a line, with the keys
  time               when the kernel received it, UTC, with nanoseconds:
                     2026-01-31T12:00:00.123456789Z
  source, source_port, destination, destination_port, interface
  hops, tos          TTL or hop limit; TOS or traffic class octet
  dropped            datagrams that the kernel dropped since the one before
  length             bytes
  truncated          whether it was longer than --max-datagram and is cut
  payload            hexadecimal
What the system does not tell is null.

Rate and losses go to standard error: live on a terminal, else a line a second.
  kernel drops       lost because the receive buffer was full: see --buffer
                     and --background, with --engine packet --ring
  in memory          received by --background, and not yet written
  overrun            lost because the memory of --background was full
  foreign            came for another group or interface, and was left out
  truncated          longer than --max-datagram, and cut
  fragments          came in pieces, which --engine packet leaves out
  bad checksums      left out by --engine packet, elsewhere by the kernel
  not written        the last ones, which the output did not take, or not whole,
                     for a second after the end, as where nobody reads it
Counts of what an option brings are shown where they are not 0.
--check goes by the number that begins each datagram which `mcastfast send`
generates (8 bytes, big-endian), for each source address and port by itself, and
adds
  lost               numbers that have not come, up to the highest that has
  doubled            came again
  late               came after a higher number, and are not lost
  before the first   what a source sent before the first that came of it, which
                     is no loss
  without a number   shorter than 8 bytes
A source that begins at 0 again begins a new run. Exit code 1 where anything is
lost or has no number, where fewer came than --count, and where nothing came,
which without --check is no failure.

Ctrl-C ends it with a summary and exit code 0. What is in memory then is written
first; a second Ctrl-C gives that up.
The summary's rates are those from the first batch to the last, without what the
first one brought.

examples:
  mcastfast recv 239.1.2.3:5000 --interface eth0
  mcastfast recv 10.0.0.7@232.1.2.3:5000 --interface eth0 --json | jq .source
  mcastfast recv '[ff15::1%eth0]:5000' --output stream.ts --duration 60
  mcastfast recv 239.1.2.3:5004 --output - | ffplay -
  mcastfast recv 239.1.2.3:5000 --background 1G --output capture
  mcastfast recv 239.1.2.3:5000 --check --count 10k --duration 30
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = arguments.add_command(subparsers, "recv", "receive groups: show the rate, or write the data", _DETAILS)
    parser.add_argument(
        "groups", nargs="+", metavar="GROUP", help="[source@]group[%%interface][:port]; all of one family and port"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--hex", action="store_true", help="show each datagram as a hex dump")
    output.add_argument("--json", action="store_true", help="write each datagram as a JSON object, one a line")
    output.add_argument(
        "-o",
        "--output",
        type=arguments.file,
        metavar="FILE",
        help="write the payloads, back to back; - is standard output",
    )
    parser.add_argument(
        "--check", action="store_true", help="count what is lost by the numbers that `mcastfast send` generates"
    )
    arguments.add_end_options(parser)
    parser.add_argument("-p", "--port", type=int, metavar="PORT", help="port of groups that name none")
    parser.add_argument(
        "-i",
        "--interface",
        action=arguments.Once,
        metavar="NAME",
        help='name, index or address, or "all" (default: the route decides)',
    )
    arguments.add_receiver_options(parser, max_datagram=2048, has_ring=True)
    parser.add_argument(
        "--loopback",
        action=argparse.BooleanOptionalAction,
        help="whether it hears this host's own senders, on Windows; elsewhere that is for the sender to say (default: "
        "the system's, which is yes)",
    )
    arguments.add_engine_option(parser, "packet")
    parser.add_argument(
        "--ring", type=arguments.size, metavar="SIZE", help="memory of --engine packet's ring (default: 16M)"
    )
    arguments.add_quiet_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Receive until the end."""
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop())
        kind = _choose_writer(args)
        silence = Silence()
        receiver = stack.enter_context(
            open_groups(
                args.groups,
                args,
                port=args.port,
                ring=args.ring,
                loopback=args.loopback,
                metadata=available(kind.metadata) if kind else (),
            )
        )
        # Only now: a mistyped group empties no file.
        output = _Output(kind, _open_output(args, stack, stop), stop) if kind else None
        announce(describe_joins(receiver), quiet=args.quiet)
        display = choose_display(quiet=args.quiet, data_on_stdout=output is not None and args.output in (None, "-"))
        intake = Intake.of(receiver, args)
        check = Check() if args.check else None
        progress = stack.enter_context(Progress(lambda: _sample(intake, check, output), display))
        stop.end_after(args.duration)
        left = intake.pass_on(partial(_take, check, output), stop, progress)
        if output:
            output.unwritten += left
    silence.explain(receiver, args.groups, args)
    failure = check.failure(args.count) if check else None
    if failure:
        print_error(failure)
    return 1 if failure else 0


class _Output:
    """Where the data goes (None: nowhere); `unwritten` counts the datagrams that were not, or not whole."""

    def __init__(self, kind: Callable[[IO[Any]], Writer], stream: IO[Any] | None, stop: Stop) -> None:
        self.unwritten = 0
        self._stream = stream
        self._writer = kind(stream) if stream else None
        self._has_reader = stream is not None and not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
        self._stop = stop

    def write(self, batch: Batch) -> None:
        """Write a batch, unless its reader keeps that, or one before, from its end when the command's has come."""
        if self.unwritten or self._writer is None or self._stream is None:
            self.unwritten += len(batch)
        elif not self._stop.finish(partial(self._writer.write, batch), patiently=not self._has_reader):
            self.unwritten = len(batch)
            forget(self._stream)


def _take(check: Check | None, output: _Output | None, batch: Batch) -> None:
    if check:
        check.take(batch)
    if output:
        output.write(batch)


def _sample(intake: Intake, check: Check | None, output: _Output | None) -> Sample:
    checked = check.losses if check else ()
    unwritten = (("not written", output.unwritten),) if output and output.unwritten else ()
    return Sample((intake.received,), intake.losses + checked + unwritten)


def _choose_writer(args: argparse.Namespace) -> type[HexWriter | JsonWriter | PayloadWriter] | None:
    if args.hex:
        return HexWriter
    if args.json:
        return JsonWriter
    return PayloadWriter if args.output is not None else None


def _open_output(args: argparse.Namespace, stack: contextlib.ExitStack, stop: Stop) -> IO[Any] | None:
    """The stream that was asked for; a named pipe is waited for until somebody reads it, or `stop`: then None."""
    if args.output in (None, "-"):
        return stack.enter_context(reopen_stdout(is_text=args.output is None))
    file = stop.interruptibly(lambda: Path(args.output).open("wb"), None)  # noqa: SIM115 # the stack closes it
    return stack.enter_context(file) if file else None
