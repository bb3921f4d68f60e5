"""Other Python code does not hold up a receiver that is behind: what is there already is taken in one go."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from receivelab import TIMEOUT, V4, Worker, at

from mcastfast import Batch, Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import netlab

pytestmark = [
    pytest.mark.needs("namespaces"),
    pytest.mark.skipif(
        not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without the GIL nobody waits for another thread"
    ),
]

SIZE = 4
"""Datagrams of a batch."""
BATCHES = 20


@pytest.fixture
def never_switching() -> Iterator[None]:
    """Who has the GIL keeps it until it lets go by itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


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
    counts: list[int] = []
    with Receiver(group, batch_size=SIZE, engine=engine) as receiver, Sender(group) as sender:
        receive = WAYS[way](receiver)
        for number in range(SIZE * (BATCHES + 1)):
            sender.send(b"%d" % number)
        begun = threading.Event()

        def run() -> None:
            receive()  # a full one; before that nobody knew
            begun.set()
            for _ in range(BATCHES):
                receive()
                counts.append(receiver.stats.datagrams)

        receiving = Worker(run)
        begun.wait(TIMEOUT)
        seen = len(counts)
        receiving.result()
        assert receiver.stats.datagrams == SIZE * (BATCHES + 1)
    assert seen == BATCHES, "the thread that waited was let in before the last batch"
