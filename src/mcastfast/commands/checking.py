"""Whether the datagrams that `send` numbers came, each of them once and in order: what `recv --check` counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcastfast.commands.payloads import NUMBER_SIZE

if TYPE_CHECKING:
    from mcastfast import Batch
    from mcastfast.sockets import SocketAddress

_REACH = 2**14
"""Numbers that a late datagram may be behind the highest; one further behind passes for doubled."""
_REACH_AT_START = 64
"""The same, behind the first that came of a source."""


@dataclass(slots=True)
class _Run:
    """What came of a source: from which number on, which one is next, and which ones before that are missing.

    may_begin_anew: the last one was a 0 that had come before.
    """

    first: int
    awaited: int
    missing: set[int]
    may_begin_anew: bool = False


class Check:
    """Counts by the numbers of each source. What it sent before the first that came of it may have been before us."""

    def __init__(self) -> None:
        self._seen = self._lost = self._doubled = self._late = self._before = self._unnumbered = 0
        self._runs: dict[SocketAddress, _Run] = {}

    def take(self, batch: Batch) -> None:
        """Count the datagrams of a batch."""
        self._seen += len(batch)
        for datagram in batch:
            if len(datagram) < NUMBER_SIZE:
                self._unnumbered += 1
                continue
            number = int.from_bytes(datagram[:NUMBER_SIZE], "big")
            run = self._runs.get(datagram.source)
            if run is None:
                missing = set(range(max(number - _REACH_AT_START, 0), number))
                self._runs[datagram.source] = _Run(number, number + 1, missing)
                self._before += number
                continue
            may_begin_anew, run.may_begin_anew = run.may_begin_anew, False
            if may_begin_anew and number == 1 != run.awaited:
                self._doubled -= 1
                self._runs[datagram.source] = _Run(0, 2, set())
            elif number == run.awaited:
                run.awaited += 1
            elif number > run.awaited:
                self._skip(run, number)
            else:
                self._take_old(run, number)

    def _skip(self, run: _Run, number: int) -> None:
        """Those between the awaited one and this are lost, unless they come late."""
        self._lost += number - run.awaited
        run.missing.update(range(max(run.awaited, number - _REACH), number))
        run.awaited = number + 1
        if len(run.missing) > 2 * _REACH:
            run.missing = {missing for missing in run.missing if missing >= number - _REACH}

    def _take_old(self, run: _Run, number: int) -> None:
        if number in run.missing:
            run.missing.remove(number)
            self._late += 1
            if number < run.first:
                self._before -= 1
            else:
                self._lost -= 1
        else:
            self._doubled += 1
            run.may_begin_anew = number == 0

    @property
    def losses(self) -> tuple[tuple[str, int], ...]:
        """The counts, as the progress shows them."""
        always = ("lost", self._lost), ("doubled", self._doubled), ("late", self._late)
        further = ("before the first", self._before), ("without a number", self._unnumbered)
        return always + tuple(count for count in further if count[1])

    def failure(self, count: int | None) -> str | None:
        """Why the check failed, if it did; `count` datagrams were wanted (None: any)."""
        if self._lost:
            return f"--check: lost {self._lost:,} of {self._seen - self._doubled + self._lost:,} datagrams"
        if self._unnumbered:
            return (
                f"--check: {self._unnumbered:,} of {self._seen:,} datagrams are shorter than a number, {NUMBER_SIZE} "
                f"bytes: send with a --size of {NUMBER_SIZE} or more"
            )
        if not self._seen:
            return "--check: no datagram came"
        if count is not None and self._seen < count:
            return f"--check: {self._seen:,} datagrams came, and not {count:,} (--count)"
        return None
