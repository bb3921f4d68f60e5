"""What the first datagrams into memory cost that nobody has written to yet, and what memory= takes off that.

Every batch is kept, so that each goes into fresh memory. Each turn has a receiver of its own, and before it the C
library gives back what is free (malloc_trim(3)); that the memory is made when it is opened ("prefault") is not timed.
"""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from time import perf_counter_ns
from typing import TYPE_CHECKING

import pytest

from bench.contest import Contestant, Turn
from bench.feed import Feed
from bench.rig import replayed_time

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 41
MEMORY = 64 << 20  # bytes
_C_LIBRARY = ctypes.CDLL(None)
WISHES = {
    "socket": (),
    "huge-socket": ("huge",),
    "prefaulted-socket": ("prefault",),
    "prefaulted-huge-socket": ("prefault", "huge"),
}


def _contestant(rig: Rig, size: int, wishes: tuple[str, ...]) -> Contestant:
    def turn() -> Turn:
        _C_LIBRARY.malloc_trim(0)
        with ExitStack() as stack:
            feed = Feed(rig.limit, size)
            stack.callback(feed.close)
            receiver = stack.enter_context(feed.receive_by("socket", max_memory=MEMORY, memory=wishes))
            depth, received, kept = rig.depth(size), 0, []
            feed.fill(depth)
            start = perf_counter_ns()
            while received < depth:
                kept.append(receiver.recv_batch(timeout=0))
                received += len(kept[-1])
            elapsed = perf_counter_ns() - start
            return Turn(elapsed / depth, depth, received, feed.drops)

    return turn


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("size", [256, 1400], ids="{}B".format)
@pytest.mark.parametrize("work", ["untouched-v4"])
def test_first_pass(rig: Rig, benchmark: BenchmarkFixture, work: str, size: int, name: str) -> None:
    work = f"{work}-{size}B"
    records = rig.contest(
        work, ROUNDS, lambda _: {each: _contestant(rig, size, wishes) for each, wishes in WISHES.items()}
    )
    rig.report(benchmark, work, name, records)
