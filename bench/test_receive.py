"""Receiving: the drain of a queue that is already in the socket.

The limit is "batch64-c": recvmmsg for 64, asking for what mcastfast delivers. "batch64-c-bare" asks for no address and
shows what an address costs.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from bench import drains
from bench.rig import OPENINGS, replayed_time

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.drains import Way
    from bench.feed import Feed
    from bench.loops import Move
    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 300
METADATA = ("destination", "timestamp", "drops")

BATCHES: dict[str, Way] = {
    "batch64-c": lambda rig, stack, feed: drains.c_loop(rig, stack, feed, "recvmmsg_address"),
    "batch64-c-bare": lambda rig, stack, feed: drains.c_loop(rig, stack, feed, "recvmmsg"),
    "batch1-c": lambda rig, stack, feed: drains.c_loop(rig, stack, feed, "recv"),
    "batch64-socket": lambda rig, stack, feed: drains.batches(drains.receiver(stack, feed, "socket")),
    "batch64-socket-polled": lambda rig, stack, feed: drains.batches_polled(drains.receiver(stack, feed, "socket")),
    "batch64-portable": lambda rig, stack, feed: drains.batches(drains.receiver(stack, feed, "portable")),
    "batch1-recv_into": lambda rig, stack, feed: drains.recv_into(feed),
    "batch1-recvfrom_into": lambda rig, stack, feed: drains.recvfrom_into(feed),
    "batch1-recvfrom": lambda rig, stack, feed: drains.recvfrom(feed),
    "batch1-recvmsg_into": lambda rig, stack, feed: drains.recvmsg_into(feed),
}


def _described_c_loop(rig: Rig, stack: ExitStack, feed: Feed) -> Move:
    feed.ask_for_metadata()
    return drains.c_loop(rig, stack, feed, "recvmmsg_control")


def _described_recvmsg_into(rig: Rig, stack: ExitStack, feed: Feed) -> Move:
    feed.ask_for_metadata()
    return drains.recvmsg_into(feed)


DESCRIBED_BATCHES: dict[str, Way] = {
    "batch64-c": _described_c_loop,
    "batch64-socket": lambda rig, stack, feed: drains.batches(drains.receiver(stack, feed, "socket", METADATA)),
    "batch64-portable": lambda rig, stack, feed: drains.batches(drains.receiver(stack, feed, "portable", METADATA)),
    "batch1-recvmsg_into": _described_recvmsg_into,
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("size", [64, 256, 1400], ids="{}B".format)
@pytest.mark.parametrize("work", ["recv-v4"])
def test_batches(rig: Rig, benchmark: BenchmarkFixture, work: str, size: int, name: str) -> None:
    work = f"{work}-{size}B"
    records = rig.contest(work, ROUNDS, lambda stack: drains.enter(rig, stack, BATCHES, size), warm_up=OPENINGS)
    rig.report(benchmark, work, name, records, limit="batch64-c")


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("work", ["recv-v6-256B"])
def test_batches_of_ipv6(rig: Rig, benchmark: BenchmarkFixture, work: str, name: str) -> None:
    records = rig.contest(
        work, ROUNDS, lambda stack: drains.enter(rig, stack, BATCHES, 256, socket.AF_INET6), warm_up=OPENINGS
    )
    rig.report(benchmark, work, name, records, limit="batch64-c")


@pytest.mark.parametrize("name", DESCRIBED_BATCHES)
@pytest.mark.parametrize("size", [64, 256, 1400], ids="{}B".format)
@pytest.mark.parametrize("work", ["recvmeta-v4"])
def test_described_batches(rig: Rig, benchmark: BenchmarkFixture, work: str, size: int, name: str) -> None:
    work = f"{work}-{size}B"
    records = rig.contest(
        work, ROUNDS, lambda stack: drains.enter(rig, stack, DESCRIBED_BATCHES, size), warm_up=OPENINGS
    )
    rig.report(benchmark, work, name, records, limit="batch64-c")
