"""Tables and JSON on standard output, errors on standard error."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mcastfast.errors import CURRENT, Platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO, Any, NoReturn


def format_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """Columns two spaces apart, as wide as their cells; those numbered in `right` are aligned to the right."""
    lines = [tuple(headers), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = set(right)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number in aligned else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Write a table for people, its head in bold on a terminal."""
    head, *body = format_table(headers, rows, right=right).split("\n")
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        head = f"\x1b[1m{head}\x1b[0m"
    print(head, *body, sep="\n")


def print_json(value: object) -> None:
    """Write a value for machines."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_error(message: str, hints: Iterable[str] = ()) -> None:
    """Say on standard error what went wrong, in a line, and below it a line for each hint, if anybody reads it."""
    with suppress(OSError):
        print(f"mcastfast: error: {message}", *(f"  {hint}" for hint in hints), sep="\n", file=sys.stderr)


def reopen_stdout(*, is_text: bool) -> IO[Any]:
    """Standard output as a stream of its own, for data: one that writes all, in pieces if need be, or raises.

    The process' own is not that under PYTHONUNBUFFERED: what a pipe takes but a part of, since a signal came, is cut.
    """
    sys.stdout.flush()
    descriptor = sys.stdout.fileno()
    if not is_text:
        return open(descriptor, "wb", closefd=False)
    return open(descriptor, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False)


@contextmanager
def standing_in_for_closed_streams() -> Iterator[None]:
    """While it lasts, what a command writes to a stream that the caller closed (`>&-`) is no attribute of None.

    On standard error it is lost; on standard output that is an OSError, for data is to go somewhere.
    """
    names = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    with ExitStack() as stack:
        # Under their own numbers: else a socket has that of standard output, and gets what something in C writes there.
        held = {name: stack.enter_context(Path(os.devnull).open("w", encoding="utf-8")) for name in names}
        for name in [name for name in names if name != "stdin"]:
            stack.callback(setattr, sys, name, None)
            setattr(sys, name, _ClosedOutput() if name == "stdout" else held[name])
        yield


class _ClosedOutput(io.TextIOBase):
    """Standard output that is closed, which the next flush() tells when something was written."""

    _has_lost = False

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        self._has_lost = self._has_lost or bool(text)  # argparse would make nothing of an error here
        return len(text)

    def flush(self) -> None:
        if self._has_lost:
            self._has_lost = False  # told once
            self.fileno()

    def fileno(self) -> NoReturn:
        raise OSError(errno.EBADF, "standard output is closed, and nothing else takes the data: name a file with >")


def settle_standard_streams() -> None:
    """Lose what standard output and error do not take: Python would try again at its end, and give 120 for a code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            forget(stream)


def is_of_a_broken_pipe(error: Exception) -> bool:
    """Whether it is what a write ends in that nobody reads; the C library of Windows calls that EINVAL."""
    if CURRENT is Platform.WINDOWS and error.args == (errno.EINVAL, os.strerror(errno.EINVAL)):  # ours name the call
        return True
    return isinstance(error, BrokenPipeError)


def forget(stream: IO[Any]) -> None:
    """Nobody reads the stream any more: what it still holds, and what is written to it from now on, is to be lost."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
