"""Where `mcastfast selftest` makes its checks: the loopback interface, from which nothing can leave the host."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Self

from mcastfast import TTL, Interface, Receiver, Sender, UnsupportedError, interfaces
from mcastfast.options import EGRESS, MULTICAST_HOPS, get_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcastfast import Datagram
    from mcastfast.packing import Egress

PATIENCE = 2.0
"""Seconds that a datagram may take: over loopback it takes microseconds, but the host may be busy."""

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
"""By the version of IP."""

STRANGERS = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Sources that nobody is: RFC 5737, RFC 3849."""


class CheckError(Exception):
    """A check found what must not be; the text says what."""


@dataclass(frozen=True, slots=True)
class Loopback:
    """The loopback interface, and its address of one family."""

    interface: Interface
    address: IPv4Address | IPv6Address

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return self.address.version

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return FAMILIES[self.version]

    @classmethod
    def find(cls, version: int) -> Self:
        """As the system tells it now; UnsupportedError where it has none with an address of this version of IP."""
        for interface in interfaces():
            for address in interface.addresses:
                if interface.is_loopback and interface.is_up and address.version == version and address.ip.is_loopback:
                    return cls(interface, address.ip)
        raise UnsupportedError(f"no loopback interface is up with an IPv{version} address")

    def free_port(self) -> int:
        """A port that no socket has, so that neither feeds nor another selftest are disturbed."""
        with socket.socket(self.family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(self.address), 0))
            port: int = sock.getsockname()[1]
        return port


def random_groups(version: int) -> tuple[str, str, str, str]:
    """Two groups for any source, two for named ones: for private use, in IPv6 of the scope of one interface."""
    first, second, *specific = random.sample(range(0x100, 0xFF00), 4)
    if version == 6:
        return (
            f"ff11::{first:x}", f"ff11::{second:x}",
            f"ff31::8000:{specific[0]:x}", f"ff31::8000:{specific[1]:x}",
        )  # fmt: skip
    a, b, c, d = (f"239.255.{number >> 8}.{number & 0xFF}" for number in (first, second, *specific))
    return a, b, c, d


class PinnedSender(Sender):
    """A sender whose datagrams do not leave the host.

    The interface is pinned by index and address, and the TTL is 0 unless 1 is asked for. Before anything can be sent
    the system's own answers are checked; OSError where one is not loopback's.
    """

    def __init__(self, group: str, loopback: Loopback, *, ttl: int = TTL.HOST, **options: Any) -> None:
        super().__init__(group, interface=loopback.interface, local=loopback.address, ttl=ttl, **options)
        try:
            self._check_that_it_is_pinned(loopback)
        except BaseException:
            self.close()
            raise

    def _check_that_it_is_pinned(self, loopback: Loopback) -> None:
        egress = get_option(self._socket, EGRESS)
        if not (
            loopback.interface.is_loopback
            and ip_address(self.address[0]).is_loopback
            and _is_by(loopback, egress)
            and get_option(self._socket, MULTICAST_HOPS) <= TTL.SUBNET
        ):
            raise OSError(f"{self} would send by {egress}, from {self.address[0]}: not loopback, nothing was sent")


def _is_by(loopback: Loopback, egress: Egress) -> bool:
    """Linux tells the address, macOS and Windows the index; Wine the address in its place."""
    in_place_of_index = int.from_bytes(loopback.address.packed, sys.byteorder)
    return egress.address == loopback.address or egress.interface_index in (loopback.interface.index, in_place_of_index)


class Lab(contextlib.ExitStack):
    """Senders and receivers of one check, all by loopback, on one port; a context, which closes them."""

    def __init__(self, loopback: Loopback, engine: str) -> None:
        super().__init__()
        self.loopback = loopback
        self.engine = engine
        self.port = loopback.free_port()
        self.group, self.other, self.specific, self.strange = random_groups(loopback.version)

    def receiver(self, *groups: str, **options: Any) -> Receiver:
        """A receiver of groups."""
        pinned = {"port": self.port, "interface": self.loopback.interface, "engine": self.engine}
        return self.enter_context(Receiver(*groups, **{**pinned, **options}))

    def sender(self, group: str, **options: Any) -> PinnedSender:
        """A sender to a group."""
        return self.enter_context(PinnedSender(group, self.loopback, port=self.port, engine=self.engine, **options))


def make_payloads(*sizes: int) -> list[bytes]:
    """Payloads of these sizes, no two the same above a few bytes."""
    return [random.randbytes(size) for size in sizes]


KEPT_OUT = b"not for the receiver"
"""The payload of what must not come."""


def expect(receiver: Receiver, payloads: Sequence[bytes]) -> list[Datagram]:
    """The datagrams that come, which have these payloads in this order and are all; CheckError where they differ."""
    received: list[Datagram] = []
    while len(received) < len(payloads):
        try:
            received += receiver.recv_batch(PATIENCE)
        except TimeoutError:
            raise CheckError(f"{len(received)} of {len(payloads)} datagrams came within {PATIENCE:g} s") from None
        compare(received, payloads)
    with contextlib.suppress(BlockingIOError):
        received += receiver.recv_batch(0)
    compare(received, payloads)
    return received


def compare(received: Sequence[Datagram | bytes], payloads: Sequence[bytes]) -> None:
    """CheckError where a datagram is not the one that is due."""
    for number, (datagram, payload) in enumerate(zip(received, payloads, strict=False), 1):
        if bytes(datagram) != payload:
            raise CheckError(f"datagram {number} of {len(payloads)} {_difference(bytes(datagram), payload, payloads)}")
    if len(received) > len(payloads):
        raise CheckError(f"{len(payloads)} datagrams were sent, and {len(received)} came")


def _difference(came: bytes, due: bytes, payloads: Sequence[bytes]) -> str:
    if came == KEPT_OUT:
        return "is one that is not for this receiver"
    if came in payloads:
        return f"is the one that is due as number {payloads.index(came) + 1}"
    if len(came) != len(due):
        return f"has {len(came)} bytes, not {len(due)}"
    at = next(place for place in range(len(due)) if came[place] != due[place])
    return f"of {len(due)} bytes differs at byte {at}"
