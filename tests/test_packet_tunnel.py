"""engine="packet" where a link has no Ethernet header, as tunnels: what is not for its members stays out there, too."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from packetlab import METADATA, Frames, Tunnel, families, needs_packet, packet_receiver, shown_until
from receivelab import END, TIMEOUT, V6, Family, at, sources

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Lan, Namespace

pytestmark = [needs_packet, pytest.mark.needs("tun")]

TCP = 6


@contextlib.contextmanager
def _packets(tunnel: Tunnel, family: Family) -> Iterator[tuple[Frames, Frames, Frames]]:
    """Makers of packets from the far end: to the group, to the other group, to this host."""
    with contextlib.ExitStack() as stack:
        made = (
            stack.enter_context(contextlib.closing(Frames(tunnel.peer, family, destination)))
            for destination in (family.group, family.other, family.address(tunnel.link))
        )
        yield next(made), next(made), next(made)


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
