"""How the values of socket options lie in memory on each system.

Pure functions of a value and a platform, so that the bytes for every system are made, and tested, on any. Numbers are
in the byte order of this machine, addresses in network order. Sources: RFC 3493, RFC 3542, RFC 3678, ip(7), Linux'
include/uapi, Windows' ws2ipdef.h, Darwin's netinet/in.h.
"""

from __future__ import annotations

import operator
import socket
import struct
from enum import StrEnum
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from mcastfast.errors import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcastfast.address import IPAddress
    from mcastfast.interface import Interface

T = TypeVar("T")


class PathMtu(StrEnum):
    """What becomes of datagrams over the MTU of the path: ip(7), IP_MTU_DISCOVER."""

    DO = "do"
    """Never fragmented: EMSGSIZE over the MTU as known."""
    WANT = "want"
    """As the route says; on Windows the system's default."""
    DONT = "dont"
    """Fragmented, on the way too."""
    PROBE = "probe"
    """Never fragmented and the path's MTU ignored: EMSGSIZE over the interface's."""


class Egress(NamedTuple):
    """Where multicast leaves: an interface and, for IPv4, the address to send from (None: the system's choice).

    With index 0 the interface is the one that has the address.
    """

    interface_index: int
    address: IPAddress | None = None

    def __str__(self) -> str:
        return f"interface {self.interface_index}" + (f", address {self.address}" if self.address else "")


class MembershipRequest(NamedTuple):
    """The operands of a join, leave, block or unblock; `source` is None where the whole group is meant."""

    group: IPAddress
    source: IPAddress | None
    interface: Interface


class SocketMemory(NamedTuple):
    """What SO_MEMINFO tells: octets, and at the end the datagrams dropped (32 bits, wraps around). sock_diag(7)."""

    receive_allocated: int
    receive_buffer: int
    send_allocated: int
    send_buffer: int
    forward_allocated: int
    send_queued: int
    options: int
    backlog: int
    drops: int


class Codec(NamedTuple, Generic[T]):
    """How a type of value is packed, and unpacked from up to `size` octets; None for what cannot be set, or not read.

    pack() raises ValueError for a value that no such option holds; its text goes on from the option's name.
    """

    size: int
    pack: Callable[[T, Platform], bytes] | None
    unpack: Callable[[bytes], T] | None


# Numbers and names


def _integer(minimum: int, maximum: int) -> Codec[int]:
    def pack(value: int, _: Platform) -> bytes:
        if not minimum <= operator.index(value) <= maximum:
            raise ValueError(f"must be from {minimum} to {maximum}, not {value}")
        return struct.pack("=i", value)

    return Codec(4, pack, _unpack_int)


def _unpack_int(data: bytes) -> int:
    value: int = struct.unpack("=i", data)[0]
    return value


def _choice(numbers: Mapping[PathMtu, int]) -> Codec[PathMtu]:
    def pack(value: PathMtu, platform: Platform) -> bytes:
        if value not in numbers:
            raise ValueError(f"must be one of {', '.join(numbers)} on {platform}, not {value}")
        return struct.pack("=i", numbers[value])

    choices = {number: choice for choice, number in numbers.items()}
    return Codec(4, pack, lambda data: choices[_unpack_int(data)])


def _pack_device(name: str, _: Platform) -> bytes:
    if not 0 < len(encoded := name.encode()) < _IFNAMSIZ:
        raise ValueError(f"must be the name of an interface, 1 to {_IFNAMSIZ - 1} octets, not {name!r}")
    return encoded + b"\0"


_IFNAMSIZ = 16
_TIMESTAMPING_RECEIVED = 0b1011100
"""SOF_TIMESTAMPING_: RX_HARDWARE, RX_SOFTWARE, SOFTWARE, RAW_HARDWARE."""

OCTET = _integer(0, 255)
SIZE = _integer(1, 2**31 - 1)
INDEX = _integer(0, 2**31 - 1)
READ_SIZE: Codec[int] = Codec(4, None, _unpack_int)
FLAG: Codec[bool] = Codec(4, lambda value, _: struct.pack("=i", bool(value)), any)
TIMESTAMPING: Codec[bool] = Codec(4, lambda value, _: struct.pack("=I", value and _TIMESTAMPING_RECEIVED), any)
DEVICE = Codec(_IFNAMSIZ, _pack_device, lambda data: data.rstrip(b"\0").decode())
MEMORY: Codec[SocketMemory] = Codec(36, None, lambda data: SocketMemory(*struct.unpack("=9I", data)))

PATH_MTU_LINUX = _choice({PathMtu.DONT: 0, PathMtu.WANT: 1, PathMtu.DO: 2, PathMtu.PROBE: 3})
PATH_MTU_WINDOWS = _choice({PathMtu.WANT: 0, PathMtu.DO: 1, PathMtu.DONT: 2, PathMtu.PROBE: 3})
DONT_FRAGMENT = _choice({PathMtu.DONT: 0, PathMtu.DO: 1})


# Egress interface


def _mreqn(group: IPAddress | None, address: IPAddress | None, index: int) -> bytes:
    return struct.pack("=4s4si", _packed(group), _packed(address), index)


def _packed(address: IPAddress | None) -> bytes:
    return address.packed if address else bytes(4)


def _unpack_mreqn(data: bytes) -> Egress:
    _, address, index = struct.unpack("=4s4si", data)
    return Egress(index, IPv4Address(address))


EGRESS_MREQN = Codec(12, lambda value, _: _mreqn(None, value.address, value.interface_index), _unpack_mreqn)
# Linux takes the same and tells the address only, 0.0.0.0 where none was given.
EGRESS_LINUX = Codec(4, EGRESS_MREQN.pack, lambda data: Egress(0, IPv4Address(data)))
# Windows takes an index in network order as 0.x.x.x, else an address of the interface, which need not be the source,
# and tells an index in the machine's order.
EGRESS_WINDOWS = Codec(
    4,
    lambda value, _: struct.pack("!I", value.interface_index) if value.interface_index else _packed(value.address),
    lambda data: Egress(_unpack_int(data)),
)
EGRESS_INDEX = Codec(
    4,
    lambda value, _: struct.pack("=I", value.interface_index),
    lambda data: Egress(_unpack_int(data)),
)


def _address_or_index(address: IPAddress | None, index: int) -> bytes:
    return address.packed if address else struct.pack("!I", index)


# Membership: RFC 3678, the protocol-specific requests (section 4) and the independent ones (section 5)

_AF_INET = 2
_AF_INET6 = {Platform.LINUX: 10, Platform.WINDOWS: 23, Platform.MACOS: 30}
_STORAGE_SIZE = 128
# Where a sockaddr_storage may begin: Darwin packs these requests, Linux aligns to a pointer.
_STORAGE_ALIGNMENT = {Platform.LINUX: struct.calcsize("P"), Platform.WINDOWS: 8, Platform.MACOS: 4}


def _sockaddr(address: IPAddress, platform: Platform) -> bytes:
    """A sockaddr_in or sockaddr_in6 without port and zone, filled up to a sockaddr_storage."""
    if isinstance(address, IPv4Address):
        family, size, rest = _AF_INET, 16, struct.pack("=2x4s8x", address.packed)
    else:
        family, size, rest = _AF_INET6[platform], 28, struct.pack("=2x4x16s4x", address.packed)
    start = struct.pack("=BB", size, family) if platform is Platform.MACOS else struct.pack("=H", family)
    return (start + rest).ljust(_STORAGE_SIZE, b"\0")


def _group_req(request: MembershipRequest, platform: Platform) -> bytes:
    """A struct group_req, or group_source_req where there is a source: index, sockaddr of group, of source."""
    index = struct.pack("=I", request.interface.index).ljust(_STORAGE_ALIGNMENT[platform], b"\0")
    source = _sockaddr(request.source, platform) if request.source else b""
    return index + _sockaddr(request.group, platform) + source


def _interface_address(interface: Interface, platform: Platform) -> bytes:
    """The interface as IPv4 requests name it; only Windows takes an index there."""
    address = interface.local_address(socket.AF_INET)
    if not address and platform is not Platform.WINDOWS:
        raise ValueError(f"interface {interface.name} has no IPv4 address")
    return _address_or_index(address, interface.index)


def _ip_mreq(request: MembershipRequest, platform: Platform) -> bytes:
    """A struct ip_mreq; on Linux ip_mreqn, since an address may stand on two interfaces."""
    if platform is Platform.LINUX:
        return _mreqn(request.group, request.interface.local_address(socket.AF_INET), request.interface.index)
    return request.group.packed + _interface_address(request.interface, platform)


def _ip_mreq_source(request: MembershipRequest, platform: Platform) -> bytes:
    """A struct ip_mreq_source, whose interface stands before the source on Linux and behind it elsewhere."""
    interface = _interface_address(request.interface, platform)
    source = _packed(request.source)
    return request.group.packed + (interface + source if platform is Platform.LINUX else source + interface)


def _ipv6_mreq(request: MembershipRequest, _: Platform) -> bytes:
    """A struct ipv6_mreq: group, index (RFC 3493)."""
    return struct.pack("=16sI", request.group.packed, request.interface.index)


GROUP_REQ: Codec[MembershipRequest] = Codec(0, _group_req, None)
IP_MREQ: Codec[MembershipRequest] = Codec(0, _ip_mreq, None)
IP_MREQ_SOURCE: Codec[MembershipRequest] = Codec(0, _ip_mreq_source, None)
IPV6_MREQ: Codec[MembershipRequest] = Codec(0, _ipv6_mreq, None)
