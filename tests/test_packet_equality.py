"""engine="packet" shows what a plain receiver shows of the same traffic, byte for byte, each datagram once."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from typing import TYPE_CHECKING, Any

import pytest
from packetlab import (
    AUTHENTICATION_HEADER,
    METADATA,
    ROUTING_HEADER,
    Frames,
    families,
    needs_packet,
    packet_receiver,
    send_train,
    shown_until,
)
from receivelab import TIMEOUT, V4, V6, Family, at, broadcasts, receive, sources

from mcastfast import Receiver
from mcastfast.binding import BIND_MODES

if TYPE_CHECKING:
    from netlab import Lan, Link
    from receivelab import Source

pytestmark = needs_packet

FRAGMENTED = b"fragmented" + bytes(3000)
END = b"end"
IFA_F_NODAD = 2


def _send_all(source: Source, family: Family) -> None:
    source.send(family.group, b"", b"one", b"x" * 1400, b"another")
    source.send(family.group, b"another port", port=5001)
    source.send(family.other, b"another group")
    send_train(source, family.group, b"train1train2tra3", 6)
    send_train(source, family.group, bytes(range(200)) * 60, 200)
    source.send(family.group, FRAGMENTED)


def _send_frames(frames: Frames, family: Family) -> None:
    frames.send(frames.ip(frames.udp(b"whole")))
    frames.send(frames.ip(frames.udp(b"padded")) + bytes(20))
    frames.send(frames.ip(frames.udp(b"wrong sum", 0x5555)))
    frames.send(frames.ip(frames.udp(b"no sum", 0)))
    frames.send(frames.ip(frames.udp(b"priority tag")), [0xA000])
    frames.send(frames.ip(frames.udp(b"vlan")), [6])
    if family is V4:
        frames.send(frames.ip(frames.udp(b"options"), options=b"\x94\x04\0\0"))
    else:
        hop, last = b"\x3c\0\1\4\0\0\0\0", b"\x11\0\1\4\0\0\0\0"
        frames.send(frames.ip(hop + last + frames.udp(b"extensions"), protocol=0))
        frames.send(frames.ip(ROUTING_HEADER + frames.udp(b"routing"), protocol=43))
        frames.send(frames.ip(AUTHENTICATION_HEADER + frames.udp(b"authentication"), protocol=51))
        for hidden, number in ((ROUTING_HEADER, b"\x2b"), (AUTHENTICATION_HEADER, b"\x33")):  # from the filter
            frames.send(frames.ip(number + last[1:] + hidden + frames.udp(b"hidden"), protocol=60))


@families
@pytest.mark.parametrize("metadata", [(), METADATA], ids=["bare", "all"])
def test_of_another_host_and_of_this_one(lan: Lan, family: Family, metadata: tuple[str, ...]) -> None:
    options: dict[str, Any] = {"metadata": metadata, "bind": "any", "max_datagram": 1000}
    with lan.receiver.namespace:
        plain = Receiver(at(family.group, lan.receiver), **options)
    with (
        plain,
        packet_receiver(family.group, lan.receiver, **options) as ring,
        sources(lan.receiver, lan.sender) as (local, remote),
        contextlib.closing(Frames(lan.sender, family)) as frames,
    ):
        local.send(family.group, b"this host's own", b"", b"x" * 1300)
        _send_all(remote, family)
        _send_frames(frames, family)
        remote.send(family.group, END)
        expected, found = shown_until(plain, END), shown_until(ring, END)
        payloads = {entry[0] for entry in expected}
        assert {b"", b"train1", b"tra3", b"whole", b"priority tag", b"this host's own"} <= payloads
        if not metadata:  # the plain one needs the destination for bind="any"
            expected, found = (
                type(found)((entry[0], entry[1], entry[-1]) for entry in one) for one in (expected, found)
            )
        assert expected - found == type(found)({entry: 1 for entry in expected if entry[0] == FRAGMENTED[:1000]}), (
            "the ring lacks more than the fragmented one"
        )
        assert not found - expected
        assert ring.stats.truncated == plain.stats.truncated - 1


def _vlan(link: Link) -> Link:
    """A VLAN of the link by an interface of its own, with the link's addresses: it has none besides."""
    name = f"{link.name}.6"
    link.namespace.ip.link("add", ifname=name, kind="vlan", link=link.index, vlan_id=6)
    with link.namespace:
        index = socket.if_nametoindex(name)
    for address, length in ((link.ipv4, 24), (link.ipv6, 64)):
        link.namespace.ip.addr("delete", index=link.index, address=address, prefixlen=length)
    link.namespace.ip.link("set", index=index, state="up")
    for address, length in ((link.ipv4, 24), (link.ipv6, 64)):
        link.namespace.ip.addr("add", index=index, address=address, prefixlen=length, flags=IFA_F_NODAD)
    return dataclasses.replace(link, name=name, index=index)


@pytest.mark.needs("vlan")
@families
def test_of_a_vlan_with_an_interface_of_its_own(lan: Lan, family: Family) -> None:
    receiving, sending = _vlan(lan.receiver), _vlan(lan.sender)
    with receiving.namespace:
        plain = Receiver(at(family.group, receiving), metadata=METADATA)
    with (
        plain,
        packet_receiver(family.group, receiving, metadata=METADATA) as ring,
        sources(sending) as (source,),
    ):
        source.send(family.group, *(b"%d" % number for number in range(60)))
        send_train(source, family.group, bytes(500), 10)
        source.send(family.group, END)
        expected = shown_until(plain, END)
        assert {entry[3] for entry in expected} == {receiving.index}
        assert shown_until(ring, END) == expected


@families
def test_of_this_host_over_loopback(loopback: Link, family: Family) -> None:
    with (
        Receiver(at(family.group, loopback), metadata=METADATA) as plain,
        packet_receiver(family.group, loopback, metadata=METADATA) as ring,
        sources(loopback) as (source,),
    ):
        source.send(family.group, *(b"%d" % number for number in range(60)))
        send_train(source, family.group, bytes(500), 10)
        source.send(family.group, END)
        assert shown_until(ring, END) == shown_until(plain, END)


@families
@pytest.mark.parametrize("bind", BIND_MODES)
def test_unicast_and_broadcast_to_the_port_come_where_a_plain_receiver_gets_them(
    lan: Lan, family: Family, bind: str
) -> None:
    hosts = [family.address(lan.receiver), *(broadcasts(lan.receiver) if family is V4 else [])]
    expected = sorted([END, *(map(str.encode, hosts) if bind == "any" else [])])
    for engine in ("socket", "packet"):  # one after the other: unicast comes to one socket alone
        with lan.receiver.namespace:
            receiver = Receiver(at(family.group, lan.receiver), bind=bind, engine=engine)
        with receiver, sources(lan.sender) as (source,):
            for host in hosts:
                source.send(host, host.encode())
            source.send(family.group, END)
            assert sorted(receive(receiver, len(expected))) == expected
            with pytest.raises(BlockingIOError):
                receiver.recv_batch(0)
            assert receiver.stats.foreign == 0


@families
@pytest.mark.parametrize("bind", BIND_MODES)
def test_a_second_group_is_taken_where_a_plain_receiver_takes_it(lan: Lan, family: Family, bind: str) -> None:
    with lan.receiver.namespace:
        plain = Receiver(at(family.group, lan.receiver), bind=bind)
        with plain, packet_receiver(family.group, lan.receiver, bind=bind) as ring:
            for receiver in (plain, ring):
                with contextlib.nullcontext() if bind == "any" else pytest.raises(ValueError, match="is bound to"):
                    receiver.join(at(family.other, lan.receiver))
            assert ring.memberships == plain.memberships
            assert ring.address == plain.address


def test_of_a_link_local_source(lan: Lan) -> None:
    with lan.receiver.namespace:
        plain = Receiver(at(V6.group, lan.receiver), metadata=METADATA)
    with (
        plain,
        packet_receiver(V6.group, lan.receiver, metadata=METADATA) as ring,
        lan.sender.namespace,
        socket.socket(V6.number, socket.SOCK_DGRAM) as sender,
    ):
        sender.bind((lan.sender.link_local, 0, 0, lan.sender.index))
        sender.sendto(END, (V6.group, 5000, 0, lan.sender.index))
        (expected,) = shown_until(plain, END)
        assert expected[1][3] == lan.receiver.index
        assert list(shown_until(ring, END)) == [expected]


@pytest.mark.parametrize("group", ["ff01::1:3", "ff11::1:3"])
def test_of_a_group_of_one_interface_only_what_this_host_sent(lan: Lan, group: str) -> None:
    with lan.receiver.namespace:
        plain = Receiver(at(group, lan.receiver), at(V6.group, lan.receiver), metadata=METADATA)
        ring = Receiver(at(group, lan.receiver), at(V6.group, lan.receiver), metadata=METADATA, engine="packet")
    with (
        plain,
        ring,
        sources(lan.receiver, lan.sender) as (own, source),
        contextlib.closing(Frames(lan.sender, V6, group)) as frames,
    ):
        for _ in range(2):
            frames.send(frames.ip(frames.udp(b"from the wire")))
        own.send(group, b"this host's own")
        source.send(V6.group, END)
        expected = shown_until(plain, END)
        assert {entry[0] for entry in expected} == {b"this host's own", END}
        assert shown_until(ring, END) == expected


def test_of_a_group_of_one_interface_over_loopback(loopback: Link) -> None:
    with packet_receiver("ff11::1:3", loopback) as ring, sources(loopback) as (source,):
        source.send("ff11::1:3", b"one", b"two", END)
        assert receive(ring, 3) == [b"one", b"two", END]


@families
@pytest.mark.parametrize("bind", BIND_MODES)
def test_a_group_that_others_joined_is_not_delivered(lan: Lan, family: Family, bind: str) -> None:
    with lan.receiver.namespace:
        other = Receiver(at(family.other, lan.receiver))
    with (
        other,
        packet_receiver(family.group, lan.receiver, bind=bind) as ring,
        sources(lan.receiver, lan.sender) as both,
    ):
        for source in both:
            source.send(family.other, b"foreign")
            source.send(family.group, END)
        received: list[bytes] = []
        while received.count(END) < 2:
            received += ring.recv_batch(TIMEOUT).payloads()
        assert received == [END, END]
