"""What happens in memory: iteration, payloads and records of a batch of 64."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import pytest

from bench import drains
from bench.climit import SLOTS
from bench.contest import Contestant, Turn
from bench.feed import Feed
from bench.rig import replayed_time

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pytest_benchmark.fixture import BenchmarkFixture

    import mcastfast
    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 75
REPEATS = 100


def _iterate_len(batch: mcastfast.Batch) -> Contestant:
    def turn() -> Turn:
        start = perf_counter_ns()
        for _ in range(REPEATS):
            for datagram in batch:
                len(datagram)
        return Turn((perf_counter_ns() - start) / (REPEATS * SLOTS))

    return turn


def _iterate_bytes(batch: mcastfast.Batch) -> Contestant:
    def turn() -> Turn:
        start = perf_counter_ns()
        for _ in range(REPEATS):
            for datagram in batch:
                bytes(datagram)
        return Turn((perf_counter_ns() - start) / (REPEATS * SLOTS))

    return turn


def _iterate_source(batch: mcastfast.Batch) -> Contestant:
    def turn() -> Turn:
        start = perf_counter_ns()
        for _ in range(REPEATS):
            for datagram in batch:
                datagram.source  # noqa: B018
        return Turn((perf_counter_ns() - start) / (REPEATS * SLOTS))

    return turn


def _payloads(batch: mcastfast.Batch) -> Contestant:
    payloads = batch.payloads

    def turn() -> Turn:
        start = perf_counter_ns()
        for _ in range(REPEATS):
            payloads()
        return Turn((perf_counter_ns() - start) / (REPEATS * SLOTS))

    return turn


HELD = {
    "iterate-len": _iterate_len,
    "iterate-bytes": _iterate_bytes,
    "iterate-source": _iterate_source,
    "payloads": _payloads,
}


def _enter_held(rig: Rig, stack: ExitStack, size: int) -> dict[str, Contestant]:
    feed = Feed(rig.limit, size)
    stack.callback(feed.close)
    receiver = drains.receiver(stack, feed, "socket")
    feed.fill(SLOTS)
    batch = receiver.recv_batch(timeout=0)
    assert len(batch) == SLOTS
    return {name: open_way(batch) for name, open_way in HELD.items()}


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("size", [64, 256, 1400], ids="{}B".format)
@pytest.mark.parametrize("work", ["held-v4"])
def test_held_batch(rig: Rig, benchmark: BenchmarkFixture, work: str, size: int, name: str) -> None:
    work = f"{work}-{size}B"
    records = rig.contest(work, ROUNDS, lambda stack: _enter_held(rig, stack, size))
    rig.report(benchmark, work, name, records)


def _records_in_the_loop(feed: Feed, depth: int, receiver: mcastfast.Receiver, dtype: Any, clock: int) -> Contestant:
    # Each call is timed by itself, where its caches are as the receive before it left them. The array replaces the one
    # before, as in a user's loop.
    def turn() -> Turn:
        dropped = feed.drops
        feed.fill(depth)
        received = elapsed = 0
        while received < depth:
            batch = receiver.recv_batch(timeout=0)
            start = perf_counter_ns()
            records = batch.records(dtype)
            elapsed += perf_counter_ns() - start - clock
            received += len(records)
        return Turn(elapsed * SLOTS / received, depth, received, feed.drops - dropped)

    return turn


def _records_held(batch: mcastfast.Batch, dtype: Any) -> Contestant:
    def turn() -> Turn:
        start = perf_counter_ns()
        for _ in range(REPEATS):
            batch.records(dtype)
        return Turn((perf_counter_ns() - start) / REPEATS)

    return turn


def _enter_records(rig: Rig, stack: ExitStack) -> dict[str, Contestant]:
    import numpy

    dtype = numpy.dtype([("number", "<u4"), ("price", "<f8"), ("rest", "V244")])
    looped, held = Feed(rig.limit, 256), Feed(rig.limit, 256)
    stack.callback(looped.close)
    stack.callback(held.close)
    receiver, holder = drains.receiver(stack, looped, "socket"), drains.receiver(stack, held, "socket")
    held.fill(SLOTS)
    return {
        "in-the-loop": _records_in_the_loop(looped, rig.depth(256), receiver, dtype, rig.clock_cost),
        "held": _records_held(holder.recv_batch(timeout=0), dtype),
    }


@pytest.mark.parametrize("name", ["in-the-loop", "held"])
@pytest.mark.parametrize("work", ["records-v4-256B"])
def test_records_of_64(rig: Rig, benchmark: BenchmarkFixture, work: str, name: str) -> None:
    """The cost is nanoseconds per call, not per datagram."""
    records = rig.contest(work, ROUNDS, lambda stack: _enter_records(rig, stack))
    rig.report(benchmark, work, name, records)
