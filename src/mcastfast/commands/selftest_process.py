"""The process in which `mcastfast selftest` makes its checks, so that one that hangs or crashes is reported too.

`python -m mcastfast.commands.selftest_process` reads names of checks from standard input, one a line, and answers each
with a line on standard output, a JSON object. It ends with its input.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Self, TypeVar

from mcastfast import ENGINES, UnsupportedError
from mcastfast.commands.selftest_checks import Check, known_cause, plan
from mcastfast.commands.selftest_lab import CheckError
from mcastfast.commands.selftest_machine import anonymous

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

T = TypeVar("T")

COMMAND = (sys.executable, "-P", "-X", "faulthandler", "-m", "mcastfast.commands.selftest_process")
"""-P: nothing is imported from the folder that the user is in. -X faulthandler: a crash tells where."""

BOUND = 10.0
"""Seconds that a check may take."""

STARTING = 20.0
"""Seconds that the process may take to start."""

ENDING = 5.0
"""Seconds that what has been killed or has closed its output may take to be gone."""

_READY = "ready"
_SHARE_BEFORE_TRACE = 0.9
"""Of BOUND: a check that is not done by then shows where it is."""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "FAILED"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a check.

    reason and hints: why, and what to do. seconds: how long it took. trace: where it failed, in lines. Nothing of it is
    private.
    """

    state: State
    reason: str = ""
    hints: tuple[str, ...] = ()
    seconds: float = 0.0
    trace: tuple[str, ...] = ()

    @classmethod
    def read(cls, line: str) -> Self | None:
        """What a line of the process says; None where it is no answer."""
        try:
            fields = json.loads(line)
            return cls(
                State(fields["state"]),
                fields["reason"],
                tuple(fields["hints"]),
                fields["seconds"],
                tuple(fields["trace"]),
            )
        except (ValueError, TypeError, KeyError):
            return None


def make(check: Check) -> Outcome:
    """Make a check in this process."""
    started = time.perf_counter()
    outcome = _outcome(check)
    return replace(outcome, seconds=time.perf_counter() - started)


def _outcome(check: Check) -> Outcome:
    try:
        check.make()
    except UnsupportedError as error:
        return _explain(State.ABSENT, error)
    except Exception as error:
        cause = known_cause(check, error)
        outcome = _explain(State.ABSENT if cause else State.FAILED, error)
        return replace(outcome, reason=f"{cause}: {outcome.reason}") if cause else outcome
    return Outcome(State.OK)


def _explain(state: State, error: Exception) -> Outcome:
    is_said = isinstance(error, CheckError | OSError | UnsupportedError)
    text = str(error) if is_said else f"{type(error).__name__}: {error}"
    return Outcome(
        state,
        anonymous(" ".join(text.split())),
        tuple(anonymous(hint) for hint in getattr(error, "__notes__", ())),
        trace=_anonymous_lines("".join(traceback.format_exception(error))) if state is State.FAILED else (),
    )


def _anonymous_lines(text: str) -> tuple[str, ...]:
    return tuple(anonymous(line) for line in text.splitlines())


class CheckProcess:
    """Makes checks in a process of its own, another one after a check that has taken it down; a context."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def make(self, check: Check, bound: float = BOUND) -> Outcome:
        """What becomes of the check; after `bound` seconds it has failed and is ended."""
        words: list[str] = []
        started = time.monotonic()
        try:
            if self._process is None:
                self._open()
                self._wait_for(lambda line: line == _READY, STARTING, words)
            self._order(check.key)
            return self._wait_for(Outcome.read, bound, words)
        except queue.Empty:
            reason = f"it was not done after {time.monotonic() - started:.0f} s, and its process was ended"
        except EOFError:
            reason = f"its process ended, {self._describe_end()}"
        self._close()
        return Outcome(
            State.FAILED, reason, seconds=time.monotonic() - started, trace=_anonymous_lines("\n".join(words))
        )

    def _open(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # what a crash leaves there is shown
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        assert self._process.stdout
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=_pass_on, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()

    def _order(self, key: str) -> None:
        assert self._process
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it has ended, which the other pipe tells
            self._process.stdin.write(f"{key}\n")
            self._process.stdin.flush()

    def _wait_for(self, read: Callable[[str], T | None], seconds: float, words: list[str]) -> T:
        """What `read` makes of the first line that it takes; others are `words`. queue.Empty: none came; EOFError."""
        end = time.monotonic() + seconds
        while True:
            line = self._lines.get(timeout=max(end - time.monotonic(), 0.0))
            if line is None:
                raise EOFError
            if answer := read(line):
                return answer
            words.append(line)

    def _describe_end(self) -> str:
        assert self._process
        try:
            code = self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            return "as far as its output goes"
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
        return f"with code {code:#x}" if code > 255 else f"with code {code}"  # of Windows' exceptions

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may be stuck in the system
            process.wait(ENDING)
        assert process.stdin
        with contextlib.suppress(OSError):  # what it never read is lost
            process.stdin.close()
        self._reader.join(ENDING)  # a debugger that a crash has started may hold the other end


def _pass_on(stream: TextIO, lines: queue.SimpleQueue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line.rstrip("\n"))
    lines.put(None)


def main() -> None:
    """Make the checks that are asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is interrupted too, and ends this process
    known = {check.key: check for check in plan(ENGINES)}
    print(_READY, flush=True)
    for line in sys.stdin:
        faulthandler.dump_traceback_later(_SHARE_BEFORE_TRACE * BOUND)
        outcome = make(known[line.strip()])
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
