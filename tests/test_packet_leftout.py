"""What engine="packet" leaves out is counted: fragments, bad checksums. Trains are split, long datagrams cut."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from netlab import set_offload
from packetlab import Frames, families, needs_packet, packet_receiver, send_train
from receivelab import END, TIMEOUT, V4, Family, at, receive_until, sources

from mcastfast import Batch, DatagramFlag, Receiver

if TYPE_CHECKING:
    from netlab import Lan

pytestmark = needs_packet


@families
def test_fragments_are_counted_once_a_datagram(lan: Lan, family: Family) -> None:
    with packet_receiver(family.group, lan.receiver) as ring, sources(lan.sender) as (source,):
        source.send(family.group, bytes(4000), bytes(1600), END)
        assert receive_until(ring, END) == []
        assert (ring.stats.fragments, ring.stats.bad_checksums, ring.stats.foreign) == (2, 0, 0)


@families
def test_bad_checksums_are_counted(lan: Lan, family: Family) -> None:
    with (
        packet_receiver(family.group, lan.receiver) as ring,
        sources(lan.sender) as (source,),
        contextlib.closing(Frames(lan.sender, family)) as frames,
    ):
        frames.send(frames.ip(frames.udp(b"bad", 0x1234)))
        frames.send(frames.ip(frames.udp(b"good")))
        source.send(family.group, END)
        assert receive_until(ring, END) == [b"good"]
        assert ring.stats.bad_checksums == 1
    assert ring.stats.bad_checksums == 1


@families
@pytest.mark.parametrize("gro", [False, True], ids=["unseen", "gro"])
def test_no_checksum_is_bad_over_ipv6_whoever_looked_at_it_before(lan: Lan, family: Family, gro: bool) -> None:
    set_offload(lan.sender, "TSO", on=False)
    set_offload(lan.receiver, "GRO", on=gro)
    with (
        lan.receiver.namespace,
        Receiver(at(family.group, lan.receiver)) as plain,
        packet_receiver(family.group, lan.receiver) as ring,
        contextlib.closing(Frames(lan.sender, family)) as frames,
    ):
        for checksum in (0, None, 0, 0, None):  # the first, and some among those of a stream
            frames.send(frames.ip(frames.udp(b"no sum" if checksum == 0 else b"a sum", checksum)))
        frames.send(frames.ip(frames.udp(END)))
        expected = receive_until(plain, END)
        assert receive_until(ring, END) == expected
        assert expected.count(b"no sum") == (3 if family is V4 else 0)
        assert ring.stats.bad_checksums == (0 if family is V4 else 3)


@families
@pytest.mark.parametrize("batch_size", [1, 7, 64, 1024])
def test_trains_are_split_over_batches(lan: Lan, family: Family, batch_size: int) -> None:
    payload = b"".join(b"%03d" % number * 4 for number in range(100)) + b"short"
    expected = [b"%03d" % number * 4 for number in range(100)] + [b"short"]
    with (
        packet_receiver(family.group, lan.receiver, batch_size=batch_size, metadata=["hops", "timestamp"]) as ring,
        sources(lan.sender) as (source,),
    ):
        send_train(source, family.group, payload, 12)
        source.send(family.group, b"lone")
        received: list[bytes] = []
        kinds = set[tuple[bool, int | None]]()
        while len(received) < 102:
            batch = ring.recv_batch(TIMEOUT)
            assert len(batch) <= batch_size
            received += batch.payloads()
            kinds |= {
                (bool(flag & DatagramFlag.SHARED_TIME), d.hops) for flag, d in zip(batch.flags, batch, strict=True)
            }
        assert received == [*expected, b"lone"]
        assert kinds == {(True, 1), (False, 1)}
        assert ring.stats.datagrams == 102


@families
def test_a_callers_batch_gets_no_more_than_max_datagram_of_it_wherever_it_comes_from(lan: Lan, family: Family) -> None:
    batch = Batch(bytearray(2 * 1400), max_datagram=1400)
    with (
        packet_receiver(family.group, lan.receiver, max_datagram=1000) as ring,
        sources(lan.sender, lan.receiver) as both,
    ):
        for source in both:
            source.send(family.group, bytes(1300))
            assert ring.recv_batch_into(batch, TIMEOUT) == 1
            assert (len(batch[0]), batch[0].truncated) == (1000, True)


@families
def test_datagrams_above_max_datagram_are_cut_and_flagged(lan: Lan, family: Family) -> None:
    with packet_receiver(family.group, lan.receiver, max_datagram=10) as ring, sources(lan.sender) as (source,):
        source.send(family.group, b"0123456789", b"0123456789a")
        send_train(source, family.group, b"0123456789ab0123456789ab0123", 12)
        send_train(source, family.group, b"0123456789ab0123456789a", 12)
        seen: list[tuple[bytes, bool]] = []
        while len(seen) < 7:
            seen += [(bytes(datagram), datagram.truncated) for datagram in ring.recv_batch(TIMEOUT)]
        cut, whole = (b"0123456789", True), (b"0123456789", False)
        assert seen == [whole, cut, cut, cut, (b"0123", False), cut, cut]
        assert ring.stats.truncated == 5


def test_copied_trains_are_the_same(lan: Lan) -> None:
    payload = bytes(range(250)) * 200
    expected = [payload[at : at + 600] for at in range(0, len(payload), 600)]
    with (
        packet_receiver(V4.group, lan.receiver, ring=4 * 262144, max_datagram=500) as ring,
        sources(lan.sender) as (source,),
    ):
        held = []
        for _ in range(3):
            source.send(V4.group, b"held")
            held.append(ring.recv_batch(TIMEOUT))
        for _ in range(12):
            received: list[bytes] = []
            send_train(source, V4.group, payload, 600)
            while len(received) < len(expected):
                received += ring.recv_batch(TIMEOUT).payloads()
            assert received == [one[:500] for one in expected]
            if ring.stats.copied:
                break
        assert ring.stats.copied >= len(expected)
