"""The command line as a user runs it: a process in a namespace of the test, awaited without sleeping."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator

    from netlab import Namespace

T = TypeVar("T")

COMMAND = (sys.executable, "-m", "mcastfast")
TIMEOUT = 20.0
"""Seconds that any one step may take."""


def _text(octets: bytes) -> str:
    """What was written as text, whatever the system ends its lines with."""
    return octets.decode().replace(os.linesep, "\n")


def _insist(start: Callable[[], T]) -> T:
    """Start a process. Wine refuses to at times while the machine is busy, with ERROR_INTERNAL_ERROR."""
    for _ in range(4):
        try:
            return start()
        except OSError as error:
            if getattr(error, "winerror", 0) != 1359:
                raise
    return start()


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return _text(self.stdout)


def run(namespace: Namespace | None, *args: str, stdin: bytes | None = None) -> Result:
    """Run a command to its end; without a namespace in that of the tests. stdin: what a pipe brings, None: nothing."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    with namespace or contextlib.nullcontext():
        done = _insist(
            lambda: subprocess.run([*COMMAND, *args], **given, capture_output=True, timeout=TIMEOUT, check=False)
        )
    result = Result(done.returncode, done.stdout, _text(done.stderr))
    assert "Traceback" not in result.stderr, result.stderr
    return result


class Running:
    """A command that runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.seen = ""
        """Of standard error, what wait_for() has read."""

    def wait_for(self, pattern: str) -> str:
        """Read standard error up to the line that matches; that line. AssertionError if the command ends without it."""
        assert self.process.stderr
        for raw in self.process.stderr:
            line = _text(raw)
            self.seen += line
            if re.search(pattern, line):
                return line
        raise AssertionError(f"no line with {pattern!r} in {self.seen!r}")

    def finish(self, sent: signal.Signals | None = None) -> Result:
        """Send a signal, if any, and wait for the end."""
        if sent is not None:
            self.process.send_signal(sent)
        stdout, stderr = self.process.communicate(timeout=TIMEOUT)
        result = Result(self.process.returncode, stdout, self.seen + _text(stderr))
        assert "Traceback" not in result.stderr, result.stderr
        return result


@contextlib.contextmanager
def running(namespace: Namespace, *args: str, until: str = "", stdin: int = subprocess.DEVNULL) -> Iterator[Running]:
    """A command that runs, from when it has written a line that matches `until`; killed in the end if it still does."""
    pipe = subprocess.PIPE
    with namespace:
        process = _insist(lambda: subprocess.Popen([*COMMAND, *args], stdin=stdin, stdout=pipe, stderr=pipe))
    with process:
        try:
            command = Running(process)
            if until:
                command.wait_for(until)
            yield command
        finally:
            process.kill()


def is_in(command: Running, place: str) -> Callable[[], bool]:
    """A question to be asked until the answer is yes: whether the command sleeps in the kernel at a place so called."""
    return lambda: place in Path(f"/proc/{command.process.pid}/wchan").read_text()
