"""The kernel's drop counters have 32 bits; ours go on counting when they wrap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from netlab import wait_until
from receivelab import TIMEOUT, V4, at, drain, dropped_by_all, sources

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Link

WRAP = 2**32


class Counted(Receiver):
    """A receiver that is told what the kernel's counter says."""

    counter = 0

    def _read_drops(self) -> int:
        return self.counter


@pytest.fixture
def counted(loopback: Link) -> Iterator[Counted]:
    with Counted(at(V4.group, loopback)) as receiver:
        yield receiver


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(start=st.integers(0, WRAP - 1), steps=st.lists(st.integers(0, WRAP - 1), max_size=20))
def test_drops_add_up_however_often_the_counter_wraps(counted: Counted, start: int, steps: list[int]) -> None:
    counted.counter = start
    _ = counted.stats
    before = counted.stats.kernel_drops
    for step in steps:
        counted.counter = (counted.counter + step) % WRAP
        _ = counted.stats
    assert counted.stats.kernel_drops == before + sum(steps)


def test_what_was_counted_before_the_receiver_was_opened_is_not_its_own(loopback: Link) -> None:
    class Late(Counted):
        counter = WRAP - 3

    with Late(at(V4.group, loopback)) as receiver:
        assert receiver.stats.kernel_drops == 0
        receiver.counter = 4
        assert receiver.stats.kernel_drops == 7
        receiver.counter = 5
    assert receiver.stats.kernel_drops == 8
    receiver.counter = 100
    assert receiver.stats.kernel_drops == 8


@pytest.mark.parametrize("counter", [WRAP - 1, WRAP - 10, 2**31])
def test_the_column_of_drops_wraps_with_the_counter(engine: str, loopback: Link, counter: int) -> None:
    """The receiver believes that the kernel had counted so far: the real counter then stands behind the wrap."""

    class Wrapped(Receiver):
        def _read_drops(self) -> int:
            return counter

    with (
        Wrapped(at(V4.group, loopback), metadata=["drops"], receive_buffer=8192, engine=engine) as receiver,
        sources(loopback) as (source,),
    ):
        source.send(V4.group, *[bytes(100)] * 1000)
        received = len(drain(receiver))
        wait_until(lambda: received + dropped_by_all(loopback, V4) == 1000, TIMEOUT)
        source.send(V4.group, b"after")
        (dropped,) = receiver.recv_batch(TIMEOUT).dropped
        lost = 1000 - received
        behind = (lost - counter) % WRAP
        # Half a turn and more is taken for a counter that ran backwards, which it does when cores queue side by side.
        assert dropped == (behind if behind < 2**31 else 0)
