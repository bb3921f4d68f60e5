"""Other Python code does not hold up a receiver that is behind: what is there already is taken in one go."""

from __future__ import annotations

import collections
import contextlib
import functools
from typing import TYPE_CHECKING, Any

import pytest
from netlab import wait_until
from packetlab import needs_packet
from receivelab import TIMEOUT, V4, at, calls_before_another_thread, first_seen_from_another_thread, needs_gil

from mcastfast import Batch, Receiver, ReceiverSet, Sender

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


@pytest.mark.usefixtures("never_switching", "watchable")
@pytest.mark.parametrize("way", WAYS)
def test_what_a_thread_has_received_is_taken_with_the_gil(loopback: netlab.Link, engine: str, way: str) -> None:
    group, count = at(V4.group, loopback), SIZE * (BATCHES + 1)
    background = Receiver(group, batch_size=SIZE, engine=engine, background="16 MiB", coalesce=False)
    with background as receiver, Sender(group) as sender:
        for number in range(count):
            sender.send(b"%d" % number)
        wait_until(lambda: receiver.stats.datagrams == count, TIMEOUT)
        assert calls_before_another_thread(WAYS[way](receiver), BATCHES) == BATCHES


@needs_packet
@pytest.mark.usefixtures("never_switching")
def test_blocks_of_the_ring_keep_the_gil(loopback: netlab.Link) -> None:
    """Though none of them fills a batch."""
    group = at(V4.group, loopback)
    with Receiver(group, engine="packet", ring="1 MiB") as receiver, Sender(group, segment=False) as sender:
        sender.send_batch([bytes(1400)] * 600)
        assert calls_before_another_thread(lambda: receiver.recv_batch(TIMEOUT), 2) == 2
        assert receiver.stats.batches == 3
        assert receiver.stats.datagrams < 600


@pytest.mark.parametrize("count", [4 * SIZE, 100 * SIZE])
def test_what_is_there_is_found_behind_what_is_foreign(loopback: netlab.Link, engine: str, count: int) -> None:
    """Which is passed over without the GIL."""
    group, other = at(V4.group, loopback), at(V4.other, loopback)
    with (
        Receiver(group, bind="any", batch_size=SIZE, engine=engine) as receiver,
        Sender(other) as foreign,
        Sender(group) as sender,
    ):
        receiver.join(other)
        for _ in range(count):
            foreign.send(b"foreign")
        receiver.leave(other)
        sender.send(b"own")
        assert receiver.recv_batch(0).payloads() == [b"own"]
        assert receiver.stats.foreign == count


@needs_packet
def test_a_loop_in_c_lets_others_run(loopback: netlab.Link) -> None:
    group, count = at(V4.group, loopback), 200_000
    with Receiver(group, engine="packet", batch_size=SIZE) as receiver, Sender(group, segment=True) as sender:
        sender.send_batch([b"payload"] * (SIZE * count))
        loop = functools.partial(collections.deque[Any], receiver, 0)
        seen = first_seen_from_another_thread(loop, lambda: receiver.stats.batches)
    assert 0 < seen < count


@needs_packet
def test_a_loop_in_c_over_large_batches_lets_others_run_after_fewer(loopback: netlab.Link) -> None:
    group, count = at(V4.group, loopback), 800_000
    with Receiver(group, engine="packet", batch_size=1024) as receiver, Sender(group, segment=True) as sender:
        sender.send_batch([b"payload"] * count)
        loop = functools.partial(collections.deque[Any], receiver, 0)
        seen = first_seen_from_another_thread(loop, lambda: receiver.stats.datagrams)
    assert 0 < seen < count


@needs_packet
def test_a_loop_in_c_over_a_set_lets_others_run_no_later_for_many_members(loopback: netlab.Link) -> None:
    groups, count, most = [at(V4.pattern % number, loopback) for number in range(1, 9)], 70_000, 400_000

    def seen() -> int:
        with contextlib.ExitStack() as stack:
            members = [
                stack.enter_context(Receiver(group, engine="packet", batch_size=64, bind="group")) for group in groups
            ]
            for group in groups:
                with Sender(group, segment=True) as sender:
                    sender.send_batch([b"payload"] * count)
            loop = functools.partial(collections.deque[Any], stack.enter_context(ReceiverSet(members)), 0)
            return first_seen_from_another_thread(loop, lambda: sum(member.stats.datagrams for member in members))

    # One alone is allowed 65,536; where the machine has other work another thread does not always come at once.
    assert any(0 < seen() < most for _ in range(5))


@pytest.mark.usefixtures("never_switching")
def test_a_set_of_receivers_that_are_behind_keeps_the_gil(loopback: netlab.Link, engine: str) -> None:
    groups = [at(group, loopback) for group in (V4.group, V4.other)]
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(Receiver(group, batch_size=SIZE, engine=engine)) for group in groups]
        receivers = stack.enter_context(ReceiverSet(members))
        for group in groups:
            with Sender(group) as sender:
                for number in range(SIZE * BATCHES):
                    sender.send(b"%d" % number)
        for _ in groups:
            receivers.recv_batch(TIMEOUT)  # from here on both are known to be behind
        assert calls_before_another_thread(lambda: receivers.recv_batch(TIMEOUT), BATCHES) == BATCHES
