"""The receive thread: what a user may ask of it."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

from mcastfast._core import ReceiverCore
from mcastfast.errors import CURRENT, Operation, UnsupportedError, os_error
from mcastfast.seconds import parse_seconds
from mcastfast.sizes import Size, parse_size

_LONGEST_NAME = 15  # bytes: pthread_setname_np(3)
_LONGEST_DELAY = 10.0
_HIGHEST_PRIORITY = 99  # of SCHED_FIFO on Linux
_HIGHEST_PROCESSOR = 2**16 - 1


class Background(NamedTuple):
    """A thread without the GIL that receives into memory while Python is busy: Receiver(background=...).

    size: bytes, or text such as "256 MiB", of memory for what nobody has taken yet and for batches that are held; what
    comes when it is used up is lost, and counted in stats.overrun. cpus: processors that the thread may run on, None
    for those of the process (on Windows of one group of 64). name: what top, ps and debuggers show, up to 15 bytes.
    priority: real-time (SCHED_FIFO, 1 to 99, sched(7)), which on Linux needs CAP_SYS_NICE or a limit on RLIMIT_RTPRIO;
    macOS has 16 above those of other threads, and takes more for 16; 0 for none; not on Windows (UnsupportedError).
    delay: seconds that the thread lets pass for more once a datagram came: fewer wake-ups for that much latency.
    Availability: Linux, Windows; macOS without cpus.
    """

    size: Size
    cpus: Iterable[int] | None = None
    name: str = "mcastfast"
    priority: int = 0
    delay: float = 0.0

    def _checked(self) -> Background:
        """The same with its size in bytes. Raises TypeError or ValueError for what cannot be asked for."""
        size = parse_size(self.size, what="background")
        cpus = None if self.cpus is None else _read_processors(self.cpus)
        if not isinstance(self.name, str):
            raise TypeError(f"background: name={self.name!r} is not text")
        if "\0" in self.name or not 1 <= _octets(self.name) <= _LONGEST_NAME:
            raise ValueError(f"background: name={self.name!r} is not 1 to {_LONGEST_NAME} bytes of text")
        if not hasattr(self.priority, "__index__"):
            raise TypeError(f"background: priority={self.priority!r} is not a whole number")
        if not 0 <= operator.index(self.priority) <= _HIGHEST_PRIORITY:
            raise ValueError(f"background: priority={self.priority!r} is not in 0 to {_HIGHEST_PRIORITY}")
        if self.priority and sys.platform == "win32":
            raise UnsupportedError(
                f"background: priority={self.priority!r} is not available on {CURRENT}, which has no SCHED_FIFO: raise "
                "the priority of the process"
            )
        delay = parse_seconds(self.delay, what="background: delay", least=0, most=_LONGEST_DELAY)
        return self._replace(size=size, cpus=cpus, delay=delay)

    def _start(self, core: ReceiverCore) -> None:
        """Start the thread for an open receiver. OSError with the remedy where the system refuses."""
        try:
            core._start_background(
                name=self.name, cpus=tuple(self.cpus or ()), priority=self.priority, delay=round(self.delay * 1e9)
            )
        except OSError as error:
            raise os_error(Operation.START, f"receive thread of {core} with {self}", error) from error


def _octets(name: str) -> int:
    """How many bytes the system has of a name; 0 where it cannot spell it."""
    try:
        return len(os.fsencode(name))
    except UnicodeEncodeError:
        return 0


def _read_processors(cpus: Iterable[int]) -> tuple[int, ...]:
    try:
        numbers = tuple(map(operator.index, cpus))
    except TypeError:
        raise TypeError(f"background: cpus={cpus!r} is not a list of numbers of processors") from None
    if not numbers or min(numbers) < 0 or max(numbers) > _HIGHEST_PROCESSOR:
        raise ValueError(f"background: cpus={cpus!r} is not one or more numbers of processors")
    return numbers


def read_background(background: Background | Size | None) -> Background | None:
    """What background= means, checked."""
    if background is None:
        return None
    return (background if isinstance(background, Background) else Background(background))._checked()
