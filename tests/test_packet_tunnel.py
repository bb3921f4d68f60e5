"""engine="packet" where a link has no Ethernet header, as tunnels: what is not for its members stays out there, too."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from netlab import Link
from packetlab import (
    AUTHENTICATION_HEADER,
    METADATA,
    ROUTING_HEADER,
    Frames,
    families,
    needs_packet,
    packet_receiver,
    shown_until,
)
from receivelab import END, TIMEOUT, V6, Family, at, sources

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Lan, Namespace

pytestmark = [needs_packet, pytest.mark.needs("tun")]

TCP = 6
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
IFA_F_NODAD = 2


class Tunnel:
    """A link without an Ethernet header, and what comes by it from its far end: the kernel has it on return."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace:
            self._device = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(self._device, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
            index = socket.if_nametoindex("tun0")
        self.link = Link(namespace, "tun0", index, "10.78.0.1", "fd78::1", "fe80::1")
        self.peer = dataclasses.replace(self.link, ipv4="10.78.0.2", ipv6="fd78::2", link_local="fe80::2")
        namespace.ip.link("set", index=index, state="up")
        for address, length in ((self.link.ipv4, 24), (self.link.ipv6, 64)):
            namespace.ip.addr("add", index=index, address=address, prefixlen=length, flags=IFA_F_NODAD)

    def close(self) -> None:
        os.close(self._device)

    def bring(self, *packets: bytes) -> None:
        """Have these IP packets come in."""
        for packet in packets:
            os.write(self._device, packet)


@contextlib.contextmanager
def _packets(tunnel: Tunnel, family: Family) -> Iterator[tuple[Frames, Frames, Frames]]:
    """Makers of packets from the far end: to the group, to the other group, to this host."""
    with contextlib.ExitStack() as stack:
        group, other, host = (
            stack.enter_context(contextlib.closing(Frames(tunnel.peer, family, destination)))
            for destination in (family.group, family.other, family.address(tunnel.link))
        )
        yield group, other, host


@families
def test_what_others_have_in_a_tunnel_takes_no_room(lan: Lan, family: Family) -> None:
    with (
        contextlib.closing(Tunnel(lan.receiver.namespace)) as tunnel,
        _packets(tunnel, family) as (group, _, host),
        packet_receiver(family.group, lan.receiver, bind="any", ring="1 MiB") as ring,
        sources(lan.sender) as (source,),
    ):
        tcp = host.ip(bytes(1300), protocol=TCP)
        unicast = host.ip(host.udp(bytes(1300), port=53))
        not_joined_there = group.ip(group.udp(bytes(1300)))
        for _ in range(1000):  # more than the ring has room for, of each
            tunnel.bring(tcp, unicast, not_joined_there)
        source.send(family.group, END)
        assert ring.stats.kernel_drops == 0
        assert ring.recv_batch(TIMEOUT).payloads() == [END]
        assert (ring.stats.foreign, ring.stats.datagrams) == (0, 1)


@families
def test_of_a_tunnel_comes_what_a_plain_receiver_shows(namespace: Namespace, family: Family) -> None:
    with (
        contextlib.closing(Tunnel(namespace)) as tunnel,
        _packets(tunnel, family) as (group, other, host),
        namespace,
        Receiver(at(family.group, tunnel.link), metadata=METADATA) as plain,
        packet_receiver(family.group, tunnel.link, metadata=METADATA) as ring,
    ):
        tunnel.bring(
            group.ip(group.udp(b"one")),
            group.ip(group.udp(b"")),
            group.ip(group.udp(b"another port", port=5001)),
            other.ip(other.udp(b"another group")),
            host.ip(host.udp(b"unicast", port=53)),
            group.ip(group.udp(b"wrong sum", 0x5555)),
            group.ip(bytes(100), protocol=TCP),
        )
        if family is V6:
            last = b"\x11\0\1\4\0\0\0\0"
            tunnel.bring(group.ip(last + group.udp(b"an extension"), protocol=60))
            tunnel.bring(group.ip(last + group.udp(b"that of another port", port=5001), protocol=60))
            tunnel.bring(group.ip(ROUTING_HEADER + group.udp(b"routing"), protocol=43))
            tunnel.bring(group.ip(AUTHENTICATION_HEADER + group.udp(b"authentication"), protocol=51))
        tunnel.bring(group.ip(group.udp(END)))
        expected = shown_until(plain, END)
        assert {entry[0] for entry in expected} >= {b"one", b"", END}
        assert shown_until(ring, END) == expected
        assert (ring.stats.foreign, ring.stats.bad_checksums) == (0, 1)


@families
def test_sources_count_in_a_tunnel(namespace: Namespace, family: Family) -> None:
    with (
        contextlib.closing(Tunnel(namespace)) as tunnel,
        _packets(tunnel, family) as (group, _, _),
        packet_receiver(family.group, tunnel.link) as ring,
    ):
        ring.block(family.group, family.address(tunnel.peer))
        tunnel.bring(group.ip(group.udp(b"blocked")))
        ring.unblock(family.group, family.address(tunnel.peer))
        tunnel.bring(group.ip(group.udp(END)))
        assert ring.recv_batch(TIMEOUT).payloads() == [END]
        assert ring.stats.foreign == 0
