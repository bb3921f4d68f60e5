"""A Batch goes out as it came in, without a copy, and cannot be taken away meanwhile."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np
import pytest
from receivelab import TIMEOUT, V4, V6, Worker, at
from sendlab import LARGE, Wire, sent

from mcastfast import Batch, Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

PAYLOADS = [bytes([number]) * (number * 90) for number in range(16)]  # the first is empty


@pytest.fixture
def source(wire: Wire) -> Iterator[Receiver]:
    """A receiver at the wire's sending end, over lo."""
    with wire.link.namespace, Receiver("239.9.9.9%lo:6000", engine=wire.engine) as receiver:
        yield receiver


def fetch(source: Receiver, payloads: list[bytes]) -> Batch:
    """A received batch of these payloads."""
    feed(source, payloads)
    batch = source.recv_batch(timeout=TIMEOUT)
    assert batch.payloads() == payloads
    return batch


def feed(source: Receiver, payloads: list[bytes]) -> None:
    (joined,) = source.memberships
    with Sender(joined.group, port=source.address[1], interface=joined.interface) as sender:
        sender.send_batch(payloads)


def test_a_received_batch_is_relayed_exactly(wire: Wire, source: Receiver) -> None:
    batch = fetch(source, PAYLOADS)
    sender = wire.sender()
    assert sender.send_batch(batch) == len(PAYLOADS)
    assert wire.payloads() == PAYLOADS
    assert sender.stats[:3] == (1, len(PAYLOADS), sum(map(len, PAYLOADS)))


def test_a_batch_can_be_relayed_again_and_its_copy_too(wire: Wire, source: Receiver) -> None:
    batch = fetch(source, PAYLOADS)
    copy = batch.copy()
    sender = wire.sender()
    sender.send_batch(batch)
    sender.send_batch(batch)
    batch.release()
    sender.send_batch(copy)
    assert wire.payloads() == PAYLOADS * 3


def test_a_batch_that_does_not_start_its_arena_is_relayed(wire: Wire, source: Receiver) -> None:
    first = fetch(source, [b"first", b"second"])
    second = fetch(source, [b"third", b"fourth"])
    assert wire.sender().send_batch(second) == 2
    assert wire.payloads() == [b"third", b"fourth"]
    assert first.payloads() == [b"first", b"second"]


def test_datagrams_are_payloads_like_others(wire: Wire, source: Receiver) -> None:
    batch = fetch(source, PAYLOADS)
    sender = wire.sender()
    assert sender.send_batch([b"header", *batch]) == 1 + len(PAYLOADS)
    assert sender.send_batch(reversed(list(batch))) == len(PAYLOADS)
    sender.send(batch[3])
    assert wire.payloads() == [b"header", *PAYLOADS, *PAYLOADS[::-1], PAYLOADS[3]]


def test_a_batch_of_which_the_filter_took_some_is_relayed_without_them(wire: Wire, engine: str) -> None:
    groups = ["239.9.9.9", "239.9.9.8"]
    with wire.link.namespace, Receiver(*groups, port=6000, interface="lo", engine=engine) as source:
        for number in range(5):
            with Sender(groups[number % 2], port=6000, interface="lo") as sender:
                sender.send(b"datagram %d" % number)
        source.leave(groups[1])
        batch = source.recv_batch(timeout=TIMEOUT)
    assert wire.sender().send_batch(batch) == 3
    assert wire.payloads() == [b"datagram 0", b"datagram 2", b"datagram 4"]


def test_a_batch_over_memory_of_the_callers_is_relayed(wire: Wire, source: Receiver) -> None:
    memory = bytearray(2048 * 32)
    batch = Batch(memory)
    sender = wire.sender()
    assert sender.send_batch(batch) == 0
    for payloads in (PAYLOADS, [b"refilled"]):
        feed(source, payloads)
        assert source.recv_batch_into(batch, timeout=TIMEOUT) == len(payloads)
        assert sender.send_batch(batch) == len(payloads)
        assert wire.payloads() == payloads


def test_views_that_are_alive_do_not_hinder(wire: Wire, source: Receiver) -> None:
    batch = fetch(source, PAYLOADS)
    lengths, data = np.asarray(batch.lengths), batch.data
    assert wire.sender().send_batch(batch) == len(PAYLOADS)
    assert wire.payloads() == PAYLOADS
    assert list(lengths) == [len(payload) for payload in PAYLOADS]
    data.release()


@pytest.mark.needs("token_bucket")
def test_a_batch_lives_on_while_it_is_relayed(wire: Wire, source: Receiver) -> None:
    payloads = [bytes([number]) * LARGE for number in range(16)]
    received = fetch(source, payloads)
    memory = Batch(bytearray(2048 * 16))
    feed(source, payloads)
    assert source.recv_batch_into(memory, timeout=TIMEOUT) == 16
    wire.block()
    for batch in (received, memory):
        sender = wire.sender(send_buffer=1)
        sending = Worker(sender.send_batch, batch)
        sending.wait_until_blocked()
        with pytest.raises(BufferError, match="still alive"):
            batch.release()
        if batch is memory:
            with pytest.raises(BufferError, match="still alive"):
                source.recv_batch_into(batch, timeout=0)
        wire.unblock()
        assert sending.result() == 16
        assert wire.payloads() == payloads
        batch.release()
        wire.block()


@pytest.mark.needs("token_bucket")
def test_a_batch_is_free_again_after_a_failed_relay(wire: Wire, source: Receiver) -> None:
    batch = fetch(source, [bytes(LARGE)] * 16)
    wire.block()
    with pytest.raises(BlockingIOError):
        wire.sender(send_buffer=1, timeout=0).send_batch(batch)
    batch.release()


def test_a_released_batch_is_refused(wire: Wire, source: Receiver) -> None:
    batch = fetch(source, PAYLOADS)
    datagram = batch[1]
    batch.release()
    sender = wire.sender()
    with pytest.raises(ValueError, match="the batch was released"):
        sender.send_batch(batch)
    with pytest.raises(ValueError, match=r"payload 1: the batch of this datagram was released or refilled"):
        sender.send_batch([b"good", datagram])
    assert sender.stats.datagrams == 0


def test_lengths_do_not_go_with_a_batch(wire: Wire, source: Receiver) -> None:
    batch = fetch(source, PAYLOADS)
    with pytest.raises(TypeError, match="lengths= goes with a 2-D array, a batch knows its own"):
        wire.sender().send_batch(batch, [1] * len(batch))  # type: ignore[call-overload]


def test_a_datagram_that_only_ipv6_carries_is_refused_before_anything_is_sent(lan: netlab.Lan, engine: str) -> None:
    with Wire(lan, V6, engine) as wire:
        wire.sender().send(bytes(65508))
        batch = wire.receiver.recv_batch(timeout=TIMEOUT)
        relay = wire.sender(at(V4.group, wire.link))
        with pytest.raises(OSError, match=r"65508 bytes \(datagram 0\) are too many, .* at most 65507$") as caught:
            relay.send_batch(batch)
        assert (caught.value.errno, sent(caught.value)) == (errno.EMSGSIZE, 0)
        assert relay.stats.datagrams == 0
