"""Traffic that tests of engine="packet" share: what a receiver shows of it, and frames that no socket sends."""

from __future__ import annotations

import contextlib
import gc
import socket
import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from receivelab import PORT, TIMEOUT, V4, V6, Family, Source, at, family_name

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netlab import Link

    from mcastfast import Datagram

UDP_SEGMENT = 103
VLAN = 0x8100
BLOCK = 256 * 1024
METADATA = ("destination", "timestamp", "hops", "tos")
ROUTING_HEADER = b"\x11\0\2\0\0\0\0\0"
"""Of IPv6, in front of UDP and with no segments left (RFC 8200, 6275)."""
AUTHENTICATION_HEADER = b"\x11\4\0\0" + struct.pack("!II", 0x1234, 1) + bytes(12)
"""In front of UDP, of a security association that nobody has (RFC 4302)."""

needs_packet = pytest.mark.needs("packet_socket", "ipv6")
families = pytest.mark.parametrize("family", [V4, V6], ids=family_name)


def packet_receiver(group: str, link: Link, **options: Any) -> Receiver:
    """A receiver of this group on the link, by a packet ring, opened in the link's namespace."""
    with link.namespace:
        return Receiver(at(group, link), engine="packet", **options)


def shown(datagram: Datagram) -> tuple[Any, ...]:
    """Everything that is known of a datagram."""
    return (
        bytes(datagram),
        datagram.source,
        datagram.destination,
        datagram.interface_index,
        datagram.timestamp,
        datagram.hops,
        datagram.tos,
        datagram.truncated,
    )


def shown_until(receiver: Receiver, last: bytes) -> Counter[tuple[Any, ...]]:
    """What is shown of all datagrams up to `last`, and after it of what is there already."""
    found: Counter[tuple[Any, ...]] = Counter()
    while not any(entry[0] == last for entry in found):
        found.update(map(shown, receiver.recv_batch(TIMEOUT)))
    with contextlib.suppress(BlockingIOError):
        while True:
            found.update(map(shown, receiver.recv_batch(0)))
    return found


def send_train(source: Source, group: str, payload: bytes, size: int, port: int = PORT) -> None:
    """Send datagrams of `size` bytes, of which the last may be shorter, in one piece."""
    sock = source._sockets[socket.AF_INET6 if ":" in group else socket.AF_INET]
    sock.sendmsg([payload], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))], 0, (group, port))


def mappings() -> list[tuple[int, int]]:
    """Where this process has packet rings mapped: (start, end). Without those of earlier tests' tracebacks."""
    gc.collect()
    found: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "socket:[" in line:
            start, end = (int(text, 16) for text in line.split()[0].split("-"))
            found.append((start, end))
    return found


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


class Frames:
    """Packets to a group (or, without an Ethernet header, any other address), by hand."""

    def __init__(self, link: Link, family: Family, destination: str = "") -> None:
        self._family = family
        group = socket.inet_pton(family.number, destination or family.group)
        self._mac = b"\1\0\x5e" + bytes([group[1] & 127]) + group[2:] if family is V4 else b"\x33\x33" + group[-4:]
        self._addresses = socket.inet_pton(family.number, family.address(link)) + group
        with link.namespace:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._socket.bind((link.name, 0))

    def close(self) -> None:
        self._socket.close()

    def udp(self, payload: bytes, checksum: int | None = None, port: int = PORT) -> bytes:
        """A datagram with a right checksum, or with another one."""
        length = 8 + len(payload)
        datagram = struct.pack("!HHHH", 4000, port, length, 0) + payload
        if checksum is None:
            checksum = internet_checksum(self._addresses + struct.pack("!HH", 17, length) + datagram)
        return datagram[:6] + struct.pack("!H", checksum) + datagram[8:]

    def ip(self, payload: bytes, *, protocol: int = 17, options: bytes = b"", place: int = 0) -> bytes:
        """A packet of the family around it; over IPv4 at that place among fragments, as its header has it."""
        if self._family is V6:
            return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 9) + self._addresses + payload
        words = 5 + len(options) // 4
        header = struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(payload), 7, place, 9, protocol, 0)
        header += self._addresses + options
        return header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:] + payload

    def send(self, packet: bytes, tags: Sequence[int] = ()) -> None:
        """Send it, with VLAN tags."""
        header = self._mac + b"\2\0\0\0\0\1" + b"".join(struct.pack("!HH", VLAN, tag) for tag in tags)
        self._socket.send(header + struct.pack("!H", 0x0800 if self._family is V4 else 0x86DD) + packet)
