"""Other Python code does not hold up a receiver that is behind: what is there already is taken in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from receivelab import TIMEOUT, V4, at, calls_before_another_thread, needs_gil

from mcastfast import Batch, Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    import netlab

pytestmark = [pytest.mark.needs("namespaces"), needs_gil]

SIZE = 2
"""Datagrams of a batch."""
BATCHES = 80


def taking(timeout: float | None) -> Callable[[Receiver], Callable[[], object]]:
    return lambda receiver: lambda: receiver.recv_batch(timeout)


def filling(receiver: Receiver) -> Callable[[], object]:
    memory = Batch(bytearray(64 * SIZE), max_datagram=64)
    return lambda: receiver.recv_batch_into(memory)


def iterating(receiver: Receiver) -> Callable[[], object]:
    return lambda: next(receiver)


WAYS: dict[str, Any] = {
    "waiting": taking(None),
    "with a timeout": taking(TIMEOUT),
    "polling": taking(0),
    "into": filling,
    "iterating": iterating,
}


@pytest.mark.usefixtures("never_switching")
@pytest.mark.parametrize("way", WAYS)
def test_full_batches_keep_the_gil(loopback: netlab.Link, engine: str, way: str) -> None:
    group = at(V4.group, loopback)
    with Receiver(group, batch_size=SIZE, engine=engine) as receiver, Sender(group) as sender:
        for number in range(SIZE * (BATCHES + 1)):
            sender.send(b"%d" % number)
        # The first is a full one; before that nobody knew.
        assert calls_before_another_thread(WAYS[way](receiver), BATCHES) == BATCHES
        assert receiver.stats.datagrams == SIZE * (BATCHES + 1)
