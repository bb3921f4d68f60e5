"""Sending at a given rate: how many datagrams are due, and how long until the next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BACKLOG = 0.1
"""Seconds. What fell behind further, as when the machine slept, is not made up for by a burst."""


class Pacer:
    """Spreads datagrams evenly: the first is due at once, each further one 1 / `rate` seconds after the one before.

    rate: datagrams each second; None: any number is always due. The clock gives seconds and is a parameter for tests.
    """

    def __init__(self, rate: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._clock = clock
        self._next = clock()

    def due(self, most: int) -> int:
        """How many may go now, 0 to `most`."""
        if not self._interval:
            return most
        now = self._clock()
        if now < self._next:
            return 0
        self._next = max(self._next, now - BACKLOG)
        return min(int((now - self._next) / self._interval) + 1, most)

    def spend(self, number: int) -> None:
        """So many have gone."""
        self._next += number * self._interval

    def pause(self) -> float:
        """Seconds until the next is due, 0 where it is."""
        return max(0.0, self._next - self._clock())
