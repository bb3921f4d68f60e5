"""What engine="packet" leaves out is counted: fragments, bad checksums. Trains are split, long datagrams cut."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

import pytest
from netlab import set_offload
from packetlab import Frames, families, needs_packet, packet_receiver, send_train
from receivelab import END, TIMEOUT, V4, Family, at, receive_until, sources

from mcastfast import Batch, DatagramFlag, Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Lan

pytestmark = needs_packet


@families
def test_fragments_are_counted_once_a_datagram(lan: Lan, family: Family) -> None:
    with packet_receiver(family.group, lan.receiver) as ring, sources(lan.sender) as (source,):
        source.send(family.group, bytes(4000), bytes(1600), END)
        assert receive_until(ring, END) == []
        assert (ring.stats.fragments, ring.stats.bad_checksums, ring.stats.foreign) == (2, 0, 0)


IPV6_FRAGMENT = 44
AN_OPTION = b"\0\1\4\0\0\0\0"
"""An extension header of IPv6, without its first byte: which header is next."""


def _fragments(frames: Frames, family: Family, datagram: bytes) -> Iterator[bytes]:
    """The datagram in three packets; over IPv6 with an extension header, which hides what is behind from the filter."""
    for number in range(3):
        part, more = datagram[number * 400 : (number + 1) * 400 if number < 2 else None], int(number < 2)
        if family is V4:
            yield frames.ip(part, place=more << 13 | number * 50)
        else:
            header = struct.pack("!BBHI", 17, 0, number * 400 | more, 7)
            yield frames.ip(bytes([IPV6_FRAGMENT]) + AN_OPTION + header + part, protocol=60)


@families
def test_only_what_is_left_out_of_ours_is_counted(lan: Lan, family: Family) -> None:
    with (
        lan.receiver.namespace,
        packet_receiver(family.group, lan.receiver, bind="any") as ring,
        contextlib.closing(Frames(lan.sender, family)) as frames,
        contextlib.closing(Frames(lan.sender, family, family.other)) as others,
    ):
        ring.join(at(family.other, lan.receiver))
        for maker, port in ((frames, 5000), (frames, 5001), (others, 5000)):
            for packet in _fragments(maker, family, maker.udp(bytes(1200), port=port)):
                maker.send(packet)
            bad = maker.udp(b"bad", 0x1234, port)
            maker.send(maker.ip(bad) if family is V4 else maker.ip(b"\x11" + AN_OPTION + bad, protocol=60))
        frames.send(frames.ip(frames.udp(END)))
        ring.leave(family.other)  # what came before lies in the ring
        assert receive_until(ring, END) == []
        assert (ring.stats.fragments, ring.stats.bad_checksums, ring.stats.foreign) == (1, 1, 0)


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
