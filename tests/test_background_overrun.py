"""What finds no room in a receive thread's memory is counted, and what comes once there is room again is received."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from backgroundlab import (
    SMALL,
    families,
    payloads,
    receive_thread,
    send_slowly,
    take_all,
    wait_until_asleep,
    wait_until_seen,
    ways,
)
from netlab import wait_until
from receivelab import at
from traffic import PATIENCE, feed, number_of, payload

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netlab import Link

    from mcastfast import Batch


@families
@ways
def test_every_datagram_is_received_or_overrun_or_dropped(family: Any, way: dict[str, Any]) -> None:
    if way["coalesce"] is None:
        pytest.skip("the kernel counts a train as one")
    with feed(family, background=SMALL, **way) as busy:
        for start in range(0, 20_000, 1000):  # faster than anyone receives them
            busy.send(*map(payload, range(start, start + 1000)))

        def is_accounted() -> bool:
            stats = busy.receiver.stats
            return stats.datagrams + stats.overrun + stats.kernel_drops == 20_000

        wait_until(is_accounted, PATIENCE)
        stats = busy.receiver.stats
        assert stats.overrun > 0
        received = payloads(take_all(busy.receiver))
        assert len(received) == stats.datagrams
        numbers = list(map(number_of, received))
        assert received == [payload(number) for number in numbers]
        assert numbers == sorted(set(numbers))


@ways
def test_memory_that_is_given_back_is_used_again(way: dict[str, Any]) -> None:
    with feed(background=SMALL, **way) as busy:
        send_slowly(busy, range(8000))
        lost = busy.receiver.stats.overrun
        assert lost > 0
        held = list(take_all(busy.receiver))
        assert payloads(held) == [payload(number) for number in range(8000 - lost)]
        send_slowly(busy, range(100))
        assert busy.receiver.stats.overrun == lost + 100
        with pytest.raises(BlockingIOError):
            busy.receiver.recv_batch(0)
        held.clear()
        send_slowly(busy, range(300))
        assert payloads(take_all(busy.receiver)) == [payload(number) for number in range(300)]
        assert busy.receiver.stats.overrun == lost + 100


@ways
def test_the_memory_is_never_more_than_was_given(way: dict[str, Any]) -> None:
    with feed(background=SMALL, **way) as busy:
        while busy.receiver.stats.overrun == 0:  # how many that takes depends on how they come
            send_slowly(busy, range(8000))
        arenas = busy.receiver.stats.arenas
        held = list(take_all(busy.receiver))
        send_slowly(busy, range(8000))
        assert busy.receiver.stats.arenas == arenas
        assert sum(len(batch.data) for batch in held) <= SMALL


@ways
def test_foreign_datagrams_are_no_overrun(loopback: Link, way: dict[str, Any]) -> None:
    with (
        Receiver(at("239.1.2.3", loopback), bind="any", background=SMALL, batch_size=64, **way) as receiver,
        Sender("239.1.2.3:5000", interface="lo") as sender,
    ):
        while receiver.stats.overrun == 0:
            sender.send_batch([b"x"] * 100)
        wait_until_asleep(receive_thread())
        before = receiver.stats
        receiver._set_filter([])
        sender.send_batch([b"x"] * 10)
        wait_until(lambda: receiver.stats.foreign == before.foreign + 10, PATIENCE)
        assert receiver.stats.overrun == before.overrun


def test_kernel_drops_during_an_overrun_show_in_the_next_batch() -> None:
    with feed(background=SMALL, coalesce=False, metadata=["drops"]) as busy:
        sent = 0
        while busy.receiver.stats.kernel_drops == 0 or busy.receiver.stats.overrun == 0:
            busy.send(*[bytes(8)] * 1000)
            sent += 1000
        wait_until_seen(busy.receiver, sent)
        held = list(take_all(busy.receiver))
        dropped = _dropped(held)
        held.clear()
        send_slowly(busy, range(10), burst=1)
        dropped += _dropped(take_all(busy.receiver))
        assert dropped == busy.receiver.stats.kernel_drops


def _dropped(batches: Iterable[Batch]) -> int:
    return sum(int(np.asarray(batch.dropped).sum()) for batch in batches)
