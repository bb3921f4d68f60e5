"""Trains: receiving what the kernel left together (UDP_GRO), and what it costs to ask for that in vain.

The limit is "c-trains", which takes the trains as they are and does not split them. "recvmsg_into-trains" is what a
careful user of `socket` can do: set UDP_GRO, and count by the size that comes with each train; it does not split them,
either. In the work "apart" the datagrams
were sent one by one, so that there is nothing to coalesce.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import drains
from bench.rig import OPENINGS, replayed_time

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.drains import Way
    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 150

COALESCING: dict[str, Way] = {
    "coalescing-socket": lambda rig, stack, feed: drains.batches(
        drains.receiver(stack, feed, "socket", coalesce=True, batch_size=None)
    )
}
TRAINS: dict[str, Way] = {
    "c-trains": drains.c_loop_over_trains,
    **COALESCING,
    "c": lambda rig, stack, feed: drains.c_loop(rig, stack, feed, "recvmmsg_address"),
    "socket": lambda rig, stack, feed: drains.batches(drains.receiver(stack, feed, "socket")),
    "recvmsg_into-trains": lambda rig, stack, feed: drains.trains_into(feed),
    "recv_into": lambda rig, stack, feed: drains.recv_into(feed),
}
APART: dict[str, Way] = {
    "c": lambda rig, stack, feed: drains.c_loop(rig, stack, feed, "recvmmsg_address"),
    "c-trains": drains.c_loop_over_trains,
    "socket": lambda rig, stack, feed: drains.batches(drains.receiver(stack, feed, "socket")),
    **COALESCING,
}


@pytest.mark.parametrize("name", TRAINS)
@pytest.mark.parametrize("size", [64, 256, 1400], ids="{}B".format)
@pytest.mark.parametrize("work", ["trains-v4"])
def test_trains(rig: Rig, benchmark: BenchmarkFixture, work: str, size: int, name: str) -> None:
    work = f"{work}-{size}B"
    records = rig.contest(work, ROUNDS, lambda stack: drains.enter(rig, stack, TRAINS, size), warm_up=OPENINGS)
    rig.report(benchmark, work, name, records, limit="c-trains")


@pytest.mark.parametrize("name", APART)
@pytest.mark.parametrize("work", ["apart-v4-256B"])
def test_nothing_to_coalesce(rig: Rig, benchmark: BenchmarkFixture, work: str, name: str) -> None:
    records = rig.contest(
        work, ROUNDS, lambda stack: drains.enter(rig, stack, APART, 256, segments=1), warm_up=OPENINGS
    )
    rig.report(benchmark, work, name, records, limit="c")
