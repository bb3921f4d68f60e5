"""The loopback interface, from which nothing can leave the host: `bench` and `selftest` send by it alone."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Self

from mcastfast import TTL, Interface, Sender, UnsupportedError, interfaces
from mcastfast.options import EGRESS, MULTICAST_HOPS, get_option

if TYPE_CHECKING:
    from mcastfast.packing import Egress

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
"""By the version of IP."""


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
        remedy = ": switch it on (Linux: ip link set dev lo up)" if version == 4 else ""
        raise UnsupportedError(f"no loopback interface is up with an IPv{version} address{remedy}")

    def free_port(self) -> int:
        """A port that no socket has, so that neither feeds nor another selftest are disturbed."""
        with socket.socket(self.family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(self.address), 0))
            port: int = sock.getsockname()[1]
        return port


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
