"""Ending a command from outside: Ctrl-C and SIGTERM ask for the end, and the command comes to it in order."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

T = TypeVar("T")

PATIENCE = 0.1
"""Seconds that a command may wait at most before it looks whether it shall stop."""
GRACE = 1.0
"""Seconds that what was begun may take after the end has come."""


class Stop:
    """Whether the command shall end: by a signal (SIGINT, SIGTERM), or since its time is over.

    A first signal only sets `requested`, so that what was received is also written, see finish(). A second one, or one
    that comes within interruptibly(), raises KeyboardInterrupt there. Handlers are set while the context lasts, in the
    main thread; a signal that is ignored, as Ctrl-C by what a shell runs in the background, stays so.
    """

    def __init__(self) -> None:
        self.requested = False
        self._end: float | None = None
        self._interruptible = False
        self._finishing = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal() returned

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.requested or self._interruptible:
            raise KeyboardInterrupt
        self.requested = True
        if self._finishing:
            self._set_alarm(GRACE)

    def _set_alarm(self, seconds: float) -> None:
        """Give up what is under way then; 0: do not. Without effect on Windows, where signals end no write."""
        if sys.platform != "win32" and threading.current_thread() is threading.main_thread():
            if signal.SIGALRM not in self._previous:
                self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def end_after(self, seconds: float | None) -> None:
        """Let the time run from now on; None: without end."""
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def now(self) -> bool:
        """Whether to end now."""
        return self.requested or (self._end is not None and time.monotonic() >= self._end)

    @property
    def wait(self) -> float:
        """Seconds, above 0, that the command may wait for something before it asks again."""
        if self._end is None:
            return PATIENCE
        return min(PATIENCE, max(self._end - time.monotonic(), 1e-6))

    def interruptibly(self, wait: Callable[[], T], otherwise: T) -> T:
        """What `wait()` returns, which may block for ever; `otherwise` where a signal ends it or came before."""
        try:
            self._interruptible = True
            return otherwise if self.requested else wait()
        except KeyboardInterrupt:
            self.requested = True
            return otherwise
        finally:
            self._interruptible = False

    def finish(self, work: Callable[[], object], *, patiently: bool = False) -> bool:
        """Do `work`, which may block for ever; False where the end has come and gave it GRACE seconds in vain.

        patiently: it may slow down, but does not block, and only a second signal gives it up.
        """
        try:
            self._finishing = not patiently
            if self._finishing and self.requested:
                self._set_alarm(GRACE)
            elif self._finishing and self._end is not None:
                self._set_alarm(max(self._end - time.monotonic(), 0) + GRACE)
            work()
        except KeyboardInterrupt:
            return False
        finally:
            self._finishing = False
            if not patiently and (self.requested or self._end is not None):
                self._set_alarm(0)
        return True
