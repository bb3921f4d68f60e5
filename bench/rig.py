"""What the benchmarks of one session share: the C limit, the results of the contests, the rows of the table."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import asdict
from time import perf_counter_ns
from typing import TYPE_CHECKING

from bench import machine, targets
from bench.climit import SLOT_SIZE, SLOTS, Limit
from bench.contest import Contestant, Record, compete
from bench.feed import Feed
from bench.namespace import Remote
from bench.report import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.contest import Turn
    from bench.report import Unit
    from bench.targets import Verdict

DEEPEST_QUEUE = 512  # datagrams offered before a drain is timed
OPENINGS = 5  # of one contestant

_replayed = 0.0


def replayed_time() -> float:
    """Return the timer of every benchmark here: it stands still but for the turns that are replayed.

    pytest-benchmark measures one function after the other; a contest has to shuffle them. So the contest measures, and
    its turns are then replayed to pytest-benchmark, which keeps, compares and saves them as its own.
    """
    return _replayed


class Rig:
    """One session's state."""

    def __init__(self, directory: Path, *, smoke: bool) -> None:
        self.limit = Limit(directory)
        self.smoke = smoke
        self.rows: list[Row] = []
        self._results: dict[str, dict[str, Record]] = {}
        self._failures: dict[str, Exception] = {}
        self._depths: dict[int, int] = {}
        self._remote: Remote | None = None
        self.granted = 0
        self.clock_cost = _clock_cost()

    def close(self) -> None:
        self.limit.close()
        if self._remote:
            self._remote.close()

    @property
    def remote(self) -> Remote:
        """The second host."""
        if not self._remote:
            self._remote = Remote()
        return self._remote

    def depth(self, size: int) -> int:
        """Return how many datagrams of that size are queued for a drain: what the granted buffer holds, whole batches.

        512 wherever the receive buffer may be enlarged; RuntimeError when not even one batch fits.
        """
        if size not in self._depths:
            feed = Feed(self.limit, size)
            try:
                self.granted = feed.granted
                feed.fill(DEEPEST_QUEUE)
                held = DEEPEST_QUEUE - feed.drops
            finally:
                feed.close()
            if held < SLOTS:
                raise RuntimeError(
                    f"a receive buffer of {self.granted} bytes holds {held} datagrams of {size} bytes, fewer than "
                    f"{SLOTS}: raise net.core.rmem_max"
                )
            self._depths[size] = SLOTS if self.smoke else held // SLOTS * SLOTS
        return self._depths[size]

    def open_limit(self, stack: ExitStack, slot_size: int = SLOT_SIZE) -> Limit:
        """Return a C limit with memory of its own, which the stack closes."""
        limit = Limit(self.limit.directory, slot_size)
        stack.callback(limit.close)
        return limit

    def opened_often(self, open_one: Callable[[], Contestant]) -> Contestant:
        """Return a contestant whose turns go round among several openings: where in memory one lies, and what is the
        kernel's of it, makes a few hundredths.
        """
        openings = itertools.cycle([open_one() for _ in range(1 if self.smoke else OPENINGS)])

        def turn() -> Turn:
            return next(openings)()

        return turn

    def contest(
        self,
        work: str,
        rounds: int,
        enter: Callable[[ExitStack], Mapping[str, Contestant]],
        *,
        warm_up: int = 1,
        may_lose: bool = False,
    ) -> dict[str, Record]:
        """Return the records of that work; the first call has the contestants enter and compete."""

        def measure() -> dict[str, Record]:
            with ExitStack() as stack:
                contestants = enter(stack)
                if self.smoke:
                    return compete(contestants, rounds=1, warm_up=0, may_lose=may_lose)
                return compete(contestants, rounds=rounds, warm_up=warm_up, may_lose=may_lose)

        return self.results(work, measure)

    def results(self, work: str, measure: Callable[[], dict[str, Record]]) -> dict[str, Record]:
        """Return the records of that work; the first call measures them. Where that failed, each call does."""
        if work in self._failures:
            raise self._failures[work]
        if work not in self._results:
            try:
                self._results[work] = measure()
            except Exception as error:
                self._failures[work] = error
                raise
        return self._results[work]

    def report(
        self,
        benchmark: BenchmarkFixture,
        work: str,
        contestant: str,
        records: Mapping[str, Record],
        *,
        limit: str | None = None,
        verdict: Verdict | None = None,
        unit: Unit = "ns",
        note: str = "",
        is_bound: bool = False,
    ) -> None:
        """Put one contestant's record into the table and into pytest-benchmark; limit names the C contestant.

        The verdict is that of targets.py unless another is given.
        """
        record = records[contestant]
        if record.repeated:
            note = "; ".join(filter(None, [note, f"turns taken again, since they lost something: {record.repeated}"]))
        verdict = verdict or targets.judge(work, contestant, records)
        row = Row(
            work=work,
            contestant=contestant,
            cost=record.cost,
            of_limit=records[limit].times_the_cost_of(record) if limit else None,
            target=verdict.target if verdict else "",
            figure=verdict.figure if verdict else "",
            reached=verdict.reached if verdict else None,
            offered=record.offered,
            received=record.received,
            dropped=record.dropped,
            unit=unit,
            percentiles=record.percentiles,
            note=note,
            is_bound=is_bound,
        )
        self.rows.append(row)
        benchmark.extra_info.update(machine.block(self.granted), row=asdict(row))
        costs = iter(turn.cost for turn in record.turns)

        def replay() -> None:
            global _replayed  # noqa: PLW0603
            _replayed += next(costs) * 1e-9

        benchmark.pedantic(replay, rounds=len(record.turns))  # type: ignore[no-untyped-call]


def _clock_cost() -> int:
    """Return what reading the clock twice costs, to be taken off where single calls are timed."""
    least = 1 << 62
    for _ in range(1000):
        start = perf_counter_ns()
        least = min(least, perf_counter_ns() - start)
    return least
