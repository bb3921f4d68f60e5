"""A quiet feed: datagrams come one at a time.

Not blocking: a datagram is sent, then its receive alone is timed. Blocking: another process sends one datagram every 30
or 60 microseconds; measured are the receiving thread's processor time per datagram, and how old a datagram is when the
program has it (median of the turn), each in turns of its own. All costs are nanoseconds per datagram.
"""

from __future__ import annotations

import struct
from statistics import median
from time import monotonic_ns, perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING

import pytest

from bench import drains
from bench.climit import SLOT_SIZE
from bench.contest import Contestant, Turn
from bench.feed import Feed
from bench.rig import replayed_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.rig import Rig

    # Opens a way of receiving; the way receives so many datagrams and returns their cost in nanoseconds.
    Way = Callable[[Rig, ExitStack, Feed], Callable[[int], float]]

pytestmark = pytest.mark.benchmark(timer=replayed_time)

SIZE = 256


def _lone_c(rig: Rig, stack: ExitStack, feed: Feed) -> Callable[[int], float]:
    def receive_lone(count: int) -> float:
        elapsed, _ = rig.limit.lone(feed.receiver.fileno(), feed.sender.fileno(), count, SIZE)
        return elapsed / count

    return receive_lone


def _lone_recvfrom_into(rig: Rig, stack: ExitStack, feed: Feed) -> Callable[[int], float]:
    send, payload = feed.sender.send, bytes(SIZE)
    receive, buffer = feed.receiver.recvfrom_into, bytearray(SLOT_SIZE)

    def receive_lone(count: int) -> float:
        elapsed = 0
        for _ in range(count):
            send(payload)
            start = perf_counter_ns()
            receive(buffer)
            elapsed += perf_counter_ns() - start
        return elapsed / count - rig.clock_cost

    return receive_lone


def _lone_batches(engine: str) -> Way:
    def open_way(rig: Rig, stack: ExitStack, feed: Feed) -> Callable[[int], float]:
        send, payload = feed.sender.send, bytes(SIZE)
        receive = drains.receiver(stack, feed, engine).recv_batch

        def receive_lone(count: int) -> float:
            elapsed = 0
            for _ in range(count):
                send(payload)
                start = perf_counter_ns()
                receive(timeout=0)
                elapsed += perf_counter_ns() - start
            return elapsed / count - rig.clock_cost

        return receive_lone

    return open_way


def _processor_c(rig: Rig, stack: ExitStack, feed: Feed) -> Callable[[int], float]:
    def wait(count: int) -> float:
        elapsed, received = rig.limit.wait(feed.receiver.fileno(), count)
        return elapsed / (received - 1)

    return wait


def _processor_recvfrom_into(rig: Rig, stack: ExitStack, feed: Feed) -> Callable[[int], float]:
    receive, buffer = feed.receiver.recvfrom_into, bytearray(SLOT_SIZE)

    def wait(count: int) -> float:
        receive(buffer)
        start = thread_time_ns()
        for _ in range(count - 1):
            receive(buffer)
        return (thread_time_ns() - start) / (count - 1)

    return wait


def _processor_batches(engine: str) -> Way:
    def open_way(rig: Rig, stack: ExitStack, feed: Feed) -> Callable[[int], float]:
        receiver = drains.receiver(stack, feed, engine)

        def wait(count: int) -> float:
            first = received = len(receiver.recv_batch())
            start = thread_time_ns()
            while received < count:
                received += len(next(receiver))
            return (thread_time_ns() - start) / max(received - first, 1)  # a smoke test's few may all come at once

        return wait

    return open_way


def _latency_c(rig: Rig, stack: ExitStack, feed: Feed) -> Callable[[int], float]:
    return lambda count: median(rig.limit.wait_latencies(feed.receiver.fileno(), count))


def _latency_recvfrom_into(rig: Rig, stack: ExitStack, feed: Feed) -> Callable[[int], float]:
    receive, buffer = feed.receiver.recvfrom_into, bytearray(SLOT_SIZE)
    sent = struct.Struct("=q").unpack_from

    def wait(count: int) -> float:
        latencies: list[int] = []
        for _ in range(count):
            receive(buffer)
            latencies.append(monotonic_ns() - sent(buffer)[0])
        return median(latencies)

    return wait


def _latency_batches(engine: str) -> Way:
    def open_way(rig: Rig, stack: ExitStack, feed: Feed) -> Callable[[int], float]:
        receiver = drains.receiver(stack, feed, engine)
        sent = struct.Struct("=q").unpack_from

        def wait(count: int) -> float:
            latencies: list[int] = []
            for batch in receiver:
                for datagram in batch:
                    latencies.append(monotonic_ns() - sent(datagram)[0])  # noqa: PERF401
                if len(latencies) >= count:
                    break
            return median(latencies)

        return wait

    return open_way


LONE: dict[str, Way] = {
    "c": _lone_c,
    "recvfrom_into": _lone_recvfrom_into,
    "socket": _lone_batches("socket"),
    "portable": _lone_batches("portable"),
}
BLOCKING: dict[str, dict[str, Way]] = {
    "cpu": {
        "c": _processor_c,
        "recvfrom_into": _processor_recvfrom_into,
        "socket": _processor_batches("socket"),
        "portable": _processor_batches("portable"),
    },
    "latency": {
        "c": _latency_c,
        "recvfrom_into": _latency_recvfrom_into,
        "socket": _latency_batches("socket"),
        "portable": _latency_batches("portable"),
    },
}


def _enter_lone(rig: Rig, stack: ExitStack) -> dict[str, Contestant]:
    def contestant(feed: Feed, receive_lone: Callable[[int], float]) -> Contestant:
        count = 10 if rig.smoke else 500

        def turn() -> Turn:
            dropped = feed.drops
            return Turn(receive_lone(count), count, count, feed.drops - dropped)

        return turn

    contestants = {}
    for name, open_way in LONE.items():
        feed = Feed(rig.limit, SIZE)
        stack.callback(feed.close)
        contestants[name] = contestant(feed, open_way(rig, stack, feed))
    return contestants


def _enter_blocking(rig: Rig, stack: ExitStack, measure: str, gap: int) -> dict[str, Contestant]:
    def contestant(feed: Feed, wait: Callable[[int], float]) -> Contestant:
        count = 50 if rig.smoke else 3000

        def turn() -> Turn:
            dropped = feed.drops
            sender = feed.start_paced_sender(count, gap)
            cost = wait(count)
            if sender.wait(timeout=10):
                raise RuntimeError(f"the paced sender failed with exit code {sender.returncode}")
            return Turn(cost, count, count, feed.drops - dropped)

        return turn

    contestants = {}
    for name, open_way in BLOCKING[measure].items():
        feed = Feed(rig.limit, SIZE)
        stack.callback(feed.close)
        feed.receiver.setblocking(True)
        contestants[name] = contestant(feed, open_way(rig, stack, feed))
    return contestants


@pytest.mark.parametrize("name", LONE)
@pytest.mark.parametrize("work", ["lone-v4-256B"])
def test_lone_datagram(rig: Rig, benchmark: BenchmarkFixture, work: str, name: str) -> None:
    records = rig.contest(work, 41, lambda stack: _enter_lone(rig, stack))
    rig.report(benchmark, work, name, records, limit="c")


@pytest.mark.parametrize("name", BLOCKING["cpu"])
@pytest.mark.parametrize("measure", BLOCKING)
@pytest.mark.parametrize("gap", [30, 60], ids="{}us".format)
@pytest.mark.parametrize("work", ["wait-v4-256B"])
def test_blocking(rig: Rig, benchmark: BenchmarkFixture, work: str, gap: int, measure: str, name: str) -> None:
    work = f"{work}-{gap}us-{measure}"
    records = rig.contest(work, 11, lambda stack: _enter_blocking(rig, stack, measure, gap * 1000))
    rig.report(benchmark, work, name, records, limit="c")
