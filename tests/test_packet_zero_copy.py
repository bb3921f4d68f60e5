"""What engine="packet" delivers lies in the kernel's ring, for as long as anybody holds it and no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from packetlab import families, mappings, needs_packet, packet_receiver, send_train
from receivelab import TIMEOUT, V4, Family, at, receive, sources

from mcastfast import Batch, Receiver, Sender

if TYPE_CHECKING:
    from netlab import Lan, Link

pytestmark = [needs_packet, pytest.mark.needs("numpy")]


def _address(payload: object) -> int:
    return int(np.frombuffer(payload, np.uint8).ctypes.data)  # type: ignore[call-overload]


def _is_mapped(address: int) -> bool:
    return any(start <= address < end for start, end in mappings())


@families
def test_payloads_lie_in_the_mapping(lan: Lan, family: Family) -> None:
    with packet_receiver(family.group, lan.receiver, max_datagram=4096) as ring, sources(lan.sender) as (source,):
        source.send(family.group, b"payload")
        send_train(source, family.group, bytes(900), 300)
        received = 0
        while received < 4:
            for datagram in ring.recv_batch(TIMEOUT):
                assert _is_mapped(_address(datagram))
                received += 1
        assert ring.stats.copied == 0


def test_payloads_of_one_size_make_records_without_a_copy(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback) as ring, sources(loopback) as (source,):
        source.send(V4.group, *(number.to_bytes(8, "little") for number in range(50)))
        received: list[int] = []
        while len(received) < 50:
            records = ring.recv_batch(TIMEOUT).records(np.dtype("<u8"))
            assert _is_mapped(records.ctypes.data)
            received += records.tolist()
        assert received == list(range(50))


def test_what_this_host_sends_elsewhere_is_copied_once(lan: Lan) -> None:
    """No packet socket is shown it."""
    with packet_receiver(V4.group, lan.receiver) as ring, sources(lan.receiver) as (source,):
        source.send(V4.group, b"payload")
        assert not _is_mapped(_address(ring.recv_batch(TIMEOUT)[0]))


def test_the_mapping_goes_after_the_last_view(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback) as ring, sources(loopback) as (source,):
        assert mappings()
        source.send(V4.group, b"payload")
        view = np.frombuffer(ring.recv_batch(TIMEOUT)[0], np.uint8)  # type: ignore[call-overload]
        source.send(V4.group, b"another")
        last = ring.recv_batch(TIMEOUT)[0]
    assert ring.stats.held_blocks == 0
    assert view.tobytes() == b"payload"
    del view
    assert mappings()
    assert last == b"another"
    del last
    assert not mappings()


def test_the_mapping_goes_with_a_receiver_of_which_nothing_is_held(loopback: Link) -> None:
    with packet_receiver(V4.group, loopback):
        pass
    assert not mappings()


def test_a_batch_is_sent_on_from_the_ring(loopback: Link) -> None:
    payloads = [b"%d" % number * (number % 4) for number in range(40)]
    with (
        packet_receiver(V4.group, loopback) as ring,
        Receiver(at(V4.other, loopback, 5001)) as plain,
        Sender(at(V4.other, loopback, 5001)) as sender,
        sources(loopback) as (source,),
    ):
        source.send(V4.group, *payloads)
        relayed = 0
        while relayed < len(payloads):
            relayed += sender.send_batch(ring.recv_batch(TIMEOUT))
        assert receive(plain, len(payloads)) == payloads


def test_a_callers_batch_has_a_copy(loopback: Link) -> None:
    batch = Batch(bytearray(10 * 100), max_datagram=100)
    with packet_receiver(V4.group, loopback, metadata=["hops"]) as ring, sources(loopback) as (source,):
        source.send(V4.group, b"one", b"x" * 200, b"")
        received: list[tuple[bytes, bool, int | None]] = []
        while len(received) < 3:
            ring.recv_batch_into(batch, TIMEOUT)
            assert ring.stats.held_blocks <= 1
            received += [(bytes(datagram), datagram.truncated, datagram.hops) for datagram in batch]
    assert received == [(b"one", False, 1), (b"x" * 100, True, 1), (b"", False, 1)]
    assert not mappings()
