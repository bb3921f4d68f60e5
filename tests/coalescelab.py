"""What tests of coalesced receiving share: trains as any program may send them, and a path for them."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netlab import one_processor
from receivelab import FAMILIES, PORT, TIMEOUT, Source, at, family_name

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import netlab
    import pytest
    from receivelab import Family

    from mcastfast import Batch

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
BUFFER = 212_992
"""Bytes of receive buffer that systems grant to anyone."""
MANY = 80_000
"""Bytes that wait in such a buffer with room to spare, however the kernel accounts for them."""


@dataclass(frozen=True, slots=True)
class Shot:
    """What one call sends: datagrams of `size` bytes, of which the last may be shorter; 0 = one by itself."""

    data: bytes
    size: int = 0

    def datagrams(self) -> list[bytes]:
        if not self.size:
            return [self.data]
        return [self.data[start : start + self.size] for start in range(0, len(self.data), self.size)]


def numbered(first: int, size: int, count: int = 1, *, last: int | None = None) -> Shot:
    """A train of datagrams of which each is like no other in the neighbourhood, or one by itself."""
    lengths = [size] * (count - 1) + [size if last is None else last]
    pieces = [
        (struct.pack("<I", (first + number) * 2_654_435_761 % 2**32) * (length // 4 + 1))[:length]
        for number, length in enumerate(lengths)
    ]
    return Shot(b"".join(pieces), size if count > 1 else 0)


class Shooter(Source):
    """A plain sender that also sends trains."""

    def shoot(self, host: str, *shots: Shot, port: int = PORT) -> None:
        sock = self._sockets[socket.AF_INET6 if ":" in host else socket.AF_INET]
        for shot in shots:
            control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", shot.size))] if shot.size else []
            sock.sendmsg([shot.data], control, 0, (host, port))

    def options(self, octets: bytes) -> None:
        """Send with these IPv4 options from now on."""
        self._sockets[socket.AF_INET].setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, octets)


@dataclass(frozen=True, slots=True)
class Path:
    """A link on which to receive, and the one on which to send to it."""

    receiving: netlab.Link
    sending: netlab.Link
    family: Family
    largest: int
    """Bytes of the datagrams of a train: what passes without fragments."""

    def receiver(self, **options: Any) -> Receiver:
        """One that coalesces and takes all that the lab sends; options as Receiver takes them."""
        with self.receiving.namespace:
            return Receiver(
                at(self.family.group, self.receiving),
                **{"coalesce": True, "max_datagram": 65535, "receive_buffer": BUFFER, **options},
            )

    @contextlib.contextmanager
    def shooter(self) -> Iterator[Shooter]:
        with contextlib.closing(Shooter(self.sending)) as shooter:
            yield shooter


PATHS = [(name, family) for name in ("lo", "veth") for family in FAMILIES]


def path_name(param: tuple[str, Family]) -> str:
    """The id of a parametrized fixture."""
    return f"{param[0]}-{family_name(param[1])}"


def open_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The path of a fixture with one of PATHS for its parameter; this thread keeps to one processor meanwhile."""
    name, family = request.param
    with one_processor():
        if name == "lo":
            link = request.getfixturevalue("loopback")
            yield Path(link, link, family, 32_000)
        else:
            lan = request.getfixturevalue("lan")
            yield Path(lan.receiver, lan.sender, family, 1400)


def payloads_of(shots: Iterable[Shot]) -> list[bytes]:
    return [datagram for shot in shots for datagram in shot.datagrams()]


def collect(receiver: Receiver, count: int) -> list[Batch]:
    """Batches with so many datagrams together."""
    batches: list[Batch] = []
    while count > 0:
        batches.append(receiver.recv_batch(timeout=TIMEOUT))
        count -= len(batches[-1])
    assert count == 0
    return batches
