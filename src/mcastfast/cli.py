"""The command `mcastfast`: which commands there are, and how they end.

Exit codes: 0 done, also when a signal (Ctrl-C, SIGTERM) or the reader of a pipe ended it; 1 it failed at run time, or
was interrupted before it was done; 2 it was called wrongly. An error is one line on standard error, `mcastfast: error:`
and what is wrong, with a line per hint below it. Data goes to standard output, everything else to standard error.
Data that standard output does not take, since it is full or closed, is an error.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from mcastfast import __version__
from mcastfast.commands import bench, groups, interfaces, recv, relay, selftest, send
from mcastfast.commands.arguments import EXIT_CODES, HelpFormatter
from mcastfast.commands.output import (
    is_of_a_broken_pipe,
    print_error,
    settle_standard_streams,
    standing_in_for_closed_streams,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE = 0
FAILED = 1
USAGE = 2

_COMMANDS = (recv, send, relay, interfaces, groups, bench, selftest)

_EPILOG = (
    """\
examples:
  mcastfast recv 239.1.2.3:5000 --interface eth0
  mcastfast send 239.1.2.3:5000 --interface eth0 --rate 1000 --size 200
  mcastfast relay 239.1.2.3%eth0:5000 192.0.2.7:5000
  mcastfast bench
  mcastfast selftest

A group is written [source@]group[%interface][:port], IPv6 in brackets:
[ff15::1%eth0]:5000.
`mcastfast COMMAND --help` explains a command.

"""
    + EXIT_CODES
)


class _Parser(argparse.ArgumentParser):
    """Takes the options of a command anywhere among its operands, and reports wrong usage in one line."""

    _is_mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, in two passes for a command, which argparse makes by calls of this."""
        if self._is_mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            known, rest = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False
        if rest:  # left to the parser of all commands it would be an error that names none
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return known, rest

    def error(self, message: str) -> NoReturn:
        _, _, command = self.prog.partition(" ")
        print_error(f"{command}: {message}" if command else message, [f"see {self.prog} --help"])
        self.exit(USAGE)

    def exit(self, status: int = DONE, message: str | None = None) -> NoReturn:
        sys.stdout.flush()
        super().exit(status, message)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line; what it yields has `run`, the command's function."""
    parser = _Parser(
        prog="mcastfast",
        description="Receive, send and relay UDP multicast.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mcastfast {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers).set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`argv` without the program's name; None: the process' own) and return the exit code.

    Raises SystemExit for --help, --version and wrong usage, as argparse does.
    """
    with standing_in_for_closed_streams():
        try:
            return _run(argv)
        except KeyboardInterrupt:
            print_error("interrupted")
            return FAILED
        except (ValueError, TypeError) as error:
            _report_exception(error)
            return USAGE
        except (OSError, NotImplementedError, BufferError, MemoryError) as error:
            if is_of_a_broken_pipe(error):
                return DONE
            _report_exception(error)
            return FAILED
        finally:
            settle_standard_streams()


def _run(argv: Sequence[str] | None) -> int:
    args = make_parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        code: int = args.run(args)
    sys.stdout.flush()
    return code


def _report_exception(error: Exception) -> None:
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = [in_options(" ".join(line.split())) for line in (text, *getattr(error, "__notes__", ()))]
    print_error(lines[0], lines[1:])


# What the library's texts advise, and what stands for it on the command line.
_ADVICE = {
    "use Receiver.from_socket or Sender.from_socket": "`mcastfast relay` passes on what arrives; for all else use "
    "Receiver.from_socket or Sender.from_socket (Python)",
    "use a Receiver for each, and ReceiverSet([...]) to receive on all": "run `mcastfast recv` for each",
    "a Receiver for each and a ReceiverSet": "run `mcastfast recv` for each",
    "open another Sender": "start the command again",
}
_OPTIONS = {
    'bind="any"': "--bind any",
    'bind="group"': "--bind group",
    'interface="all"': "--interface all",
    "fragment=False": "--no-fragment",
    "strict=False": "--no-strict",
    "segment=True": "--segment",
    "receive_buffer=": "--buffer",
    "send_buffer=": "--buffer",
    "background=": "--background",
    "batch_size=": "--batch-size",
    "max_datagram=": "--max-datagram",
    "out_interface=": "--out-interface",
    "out_send_buffer=": "--send-buffer",
    "interface=": "--interface",
    "source=": "--source",
    "local=": "--local",
    "ring=": "--ring",
    "port=": "--port",
    "bind=": "--bind",
    "engine=": "--engine",
    "ttl=": "--ttl",
    "burst=": "--burst",
    "rate_counts=": "--rate-counts",
    "rate=": "--rate",
}
_KEYWORD = re.compile(
    r"(?<![\w?&])(" + "|".join(map(re.escape, _OPTIONS)) + r")(?: to (?:Receiver|Sender)\b|(?=(\S)))?"
)


def in_options(text: str) -> str:
    """A text of the library in the words of the command line: `name interface=` becomes `name --interface`."""
    for advice, own in _ADVICE.items():
        text = text.replace(advice, own)

    def spell(match: re.Match[str]) -> str:
        has_value = re.match(r"[\w'\"\[-]", match[2] or "")
        return _OPTIONS[match[1]] + (" " if has_value else "")

    return _KEYWORD.sub(spell, text)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """As warnings.showwarning, for a reader who sees no source."""
    del category, filename, lineno, line
    print(f"mcastfast: warning: {in_options(str(message))}", file=file or sys.stderr)
