"""Steady state: ten million datagrams through one receiver, every one looked at, with the garbage collector on."""

from __future__ import annotations

import gc
import os
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

import pytest

from bench import drains
from bench.contest import Record, Turn
from bench.feed import Feed
from bench.rig import replayed_time
from bench.targets import Verdict

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    import mcastfast
    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

SIZE = 256
TOTAL = 10_000_000
WARM_UP = 500_000
# The allocator breathes by a few pages; a leak of one byte in 80 datagrams is over this.
STEADY_KIB = 128
MOST_ARENAS = 2


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def _pass(feed: Feed, receiver: mcastfast.Receiver, depth: int, total: int) -> Turn:
    dropped, elapsed, received, offered = feed.drops, 0, 0, 0
    while offered < total:
        feed.fill(depth)
        offered += depth
        start = perf_counter_ns()
        for batch in receiver:
            for datagram in batch:
                if len(datagram) == SIZE:
                    received += 1
            if received >= offered:
                break
        elapsed += perf_counter_ns() - start
    return Turn(elapsed / offered, offered, received, feed.drops - dropped)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["socket"])
@pytest.mark.parametrize("work", ["steady-v4-256B"])
def test_steady_state(rig: Rig, benchmark: BenchmarkFixture, work: str, engine: str) -> None:
    depth = rig.depth(SIZE)
    collections: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collections.append(info["generation"])

    with ExitStack() as stack:
        feed = Feed(rig.limit, SIZE)
        stack.callback(feed.close)
        receiver = drains.receiver(stack, feed, engine)
        _pass(feed, receiver, depth, depth if rig.smoke else WARM_UP)
        gc.collect()
        before = _resident_kib()
        gc.callbacks.append(note)
        stack.callback(gc.callbacks.remove, note)
        turn = _pass(feed, receiver, depth, 10 * depth if rig.smoke else TOTAL)
        growth, arenas = _resident_kib() - before, receiver.stats.arenas

    rig.report(
        benchmark,
        work,
        engine,
        {engine: Record((turn,))},
        verdict=Verdict(
            target=f"<= {STEADY_KIB} KiB, <= {MOST_ARENAS} arenas, 0 runs",
            figure=f"{growth} KiB, {arenas}, {len(collections)}",
            reached=growth <= STEADY_KIB and arenas <= MOST_ARENAS and not collections,
        ),
    )
