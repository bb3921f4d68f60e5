"""How evenly a paced sender sends: its mean rate over five seconds, and its longest burst, by the kernel's timestamps.

Over the loopback interface, which stamps a datagram while it is sent. A receive thread keeps what comes, so that
nothing is missing from the picture; it lets datagrams gather, for what wakes it takes the sender's time.
"""

from __future__ import annotations

from array import array
from contextlib import ExitStack
from itertools import pairwise
from threading import Thread
from typing import TYPE_CHECKING

import pytest

import mcastfast
from bench.contest import Record, Turn
from bench.namespace import LOOPBACK_INDEX
from bench.rig import replayed_time
from bench.targets import Verdict

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

GROUP = "239.1.2.3:5900"
SIZE = 256
SECONDS = 5
CALL = 1000  # datagrams of a send_batch
MOST_OFF = 0.005  # of the rate
MOST_HELD_UP = 0.05  # of the time: more is a stall, and another run follows
MOST_RUNS = 3
GATHER = 0.002  # seconds: what comes meanwhile fits any receive buffer


def _paced(rate: int, burst: int, count: int) -> tuple[array[int], int]:
    """Send so many datagrams; return when each was stamped, in nanoseconds, and how many were lost on the way."""
    stamps: array[int] = array("q")
    with ExitStack() as stack:
        receiver = stack.enter_context(
            mcastfast.Receiver(
                GROUP,
                interface=LOOPBACK_INDEX,
                background=mcastfast.Background("64 MiB", delay=GATHER),
                coalesce=False,
                max_datagram=SIZE,
                metadata=("timestamp",),
            )
        )
        sender = stack.enter_context(mcastfast.Sender(GROUP, interface=LOOPBACK_INDEX, rate=f"{rate}/s", burst=burst))

        def keep() -> None:
            for batch in receiver:
                stamps.frombytes(batch.timestamps.tobytes())
                if len(stamps) == count:
                    break

        keeper = Thread(target=keep)
        keeper.start()
        try:
            payloads = [bytes(SIZE)] * CALL
            for sent in range(0, count, CALL):
                sender.send_batch(payloads[: count - sent])
            keeper.join(timeout=2)
        finally:
            lost = count - len(stamps)
            receiver.close()
            keeper.join()
    return stamps, lost


def _longest_burst(stamps: array[int], interval: float) -> int:
    """Return the most datagrams of which each came less than half an interval after the one before."""
    longest = length = 1
    for before, after in pairwise(stamps):
        length = length + 1 if after - before < interval / 2 else 1
        longest = max(longest, length)
    return longest


def _held_up(stamps: array[int], gap: float) -> float:
    """Return the share of the time by which gaps were longer than that, of those that were twice as long or more.

    The machine took the processor away, or had other work for it. What is lost so is made up for at 1.1 times the rate
    at most: of more than an eleventh of the time the mean rate suffers.
    """
    lost = sum(after - before - gap for before, after in pairwise(stamps) if after - before > 2 * gap)
    return lost / (stamps[-1] - stamps[0])


@pytest.mark.parametrize(
    ("rate", "burst"), [(1_000, 1), (100_000, 1), (100_000, 64)], ids=["1k", "100k", "100k-burst64"]
)
@pytest.mark.parametrize("work", ["pace-lo-256B"])
def test_pace(rig: Rig, benchmark: BenchmarkFixture, work: str, rate: int, burst: int) -> None:
    name = f"{rate // 1000}k-burst{burst}"
    count = rate // 10 if rig.smoke else rate * SECONDS
    runs, held_up = 0, 1.0
    while held_up > MOST_HELD_UP and runs < (1 if rig.smoke else MOST_RUNS):
        stamps, lost = _paced(rate, burst, count)
        held_up = _held_up(stamps, burst * 1e9 / rate)
        runs += 1
    # The last burst has no time of its own: what is measured goes from the first of the first to that of the last.
    bursts = (len(stamps) - 1) // burst
    cost = (stamps[bursts * burst] - stamps[0]) / (bursts * burst)
    off = 1e9 / rate / cost - 1
    longest = _longest_burst(stamps, 1e9 / rate)
    rig.report(
        benchmark,
        f"{work}-{name}",
        "socket",
        {"socket": Record((Turn(cost, count, len(stamps), lost),))},
        unit="/s",
        verdict=Verdict(
            target=f"within {MOST_OFF:.1%} of {rate:,}/s, bursts of {burst} at most",
            figure=f"{off:+.4%}, {longest}",
            reached=abs(off) <= MOST_OFF and longest <= burst and not lost,
        ),
        note=f"held up {held_up:.1%} of the time" + (f", in run {runs}" if runs > 1 else ""),
    )
