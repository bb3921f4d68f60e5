"""A receive thread costs nothing while nothing comes, and its memory stays what it was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from backgroundlab import SIZE, opened, send_slowly, status, wait_until_idle, ways
from memorylab import SANITIZED, least_growth
from traffic import PATIENCE, feed

IDLE = 1.0
"""Seconds to watch a thread that has nothing to do."""


def _cpu_ticks(task: int) -> int:
    fields = Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("used_up", [False, True], ids=["room", "used up"])
@ways
def test_an_idle_thread_does_not_wake_up(way: dict[str, Any], used_up: bool) -> None:
    with feed(background=2 * 2**20, **way) as quiet:
        receiver, task = opened(quiet)
        send_slowly(quiet, range(12_000 if used_up else 100))
        assert (receiver.stats.overrun > 0) == used_up
        wait_until_idle(task)
        before = status(task)["voluntary_ctxt_switches"], _cpu_ticks(task)
        time.sleep(IDLE)
        assert (status(task)["voluntary_ctxt_switches"], _cpu_ticks(task)) == before


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps freed memory back")
@ways
def test_memory_does_not_grow_over_a_million_datagrams(way: dict[str, Any]) -> None:
    with feed(background=2 * 2**20, max_datagram=16, **way) as busy:
        burst = [b"12345678"] * 25

        def run() -> None:
            for _ in range(11_000):  # three runs go through the whole queue of the thread, of 2**15 batches
                busy.sender.send_batch(burst)
                left = 25
                while left:
                    left -= len(busy.receiver.recv_batch(PATIENCE))

        assert least_growth(run) < 16
        assert busy.receiver.stats.datagrams == 1_100_000
        assert busy.receiver.stats.overrun == 0
        assert busy.receiver.stats.arenas <= 8


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps freed memory back")
def test_threads_that_ended_leave_no_memory() -> None:
    def run() -> None:
        for _ in range(60):
            with feed(background=SIZE) as quiet:
                quiet.send(b"x")
                quiet.receiver.recv_batch(PATIENCE)

    assert least_growth(run) < 16
