"""The table of socket options, and the only code in Python that sets or reads one.

An Option is a role ("loopback"). Its rows say what it is called where: the system's name, the number on Linux, Windows
and macOS (an absent number: the system has no such option) and how the value is packed. The level, and the family that
a row is for, follow from the name. Numbers are from Linux' asm-generic/socket.h, linux/in.h and linux/in6.h, Windows'
winsock2.h and ws2ipdef.h, Darwin's sys/socket.h, netinet/in.h and netinet6/in6.h. To add an option, add its rows here,
and a codec to packing.py if its values are of a new kind. Membership requests are in requests.py.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from mcastfast import _core, packing
from mcastfast.errors import CURRENT, Operation, Platform, UnsupportedError, os_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcastfast.packing import Codec, Egress, PathMtu

T = TypeVar("T")


class SocketLike(Protocol):
    """What is needed of a socket."""

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""

    def setsockopt(self, level: int, number: int, value: bytes, /) -> None:
        """As socket.setsockopt."""

    def getsockopt(self, level: int, number: int, size: int, /) -> bytes:
        """As socket.getsockopt."""


class Row(NamedTuple, Generic[T]):
    """One name of an option: SO_ and MCAST_ serve both families, IP_ IPv4 and IPV6_ IPv6."""

    name: str
    codec: Codec[T]
    linux: int | None = None
    windows: int | None = None
    macos: int | None = None

    def serves(self, family: int) -> bool:
        """Whether a socket of `family` has this option."""
        return _FAMILIES.get(self.name.partition("_")[0], family) == family

    def number(self, platform: Platform) -> int | None:
        """The option's number on `platform`, None where there is none."""
        return {Platform.LINUX: self.linux, Platform.WINDOWS: self.windows, Platform.MACOS: self.macos}[platform]


class Place(NamedTuple, Generic[T]):
    """Where one system keeps an option for one family."""

    name: str
    level: int
    number: int
    codec: Codec[T]


class Option(NamedTuple, Generic[T]):
    """A socket option by its role; `instead` says what serves where a system lacks it."""

    role: str
    rows: tuple[Row[T], ...]
    instead: str = ""

    def supported(self, family: int, platform: Platform = CURRENT) -> bool:
        """Whether `platform` has this option for `family`; the running kernel may still be too old for it."""
        return self._find(family, platform) is not None

    def place(self, family: int, platform: Platform = CURRENT) -> Place[T]:
        """Name, level, number and codec; UnsupportedError where `platform` has no such option for `family`."""
        place = self._find(family, platform)
        if place is None:
            version = 4 if family == socket.AF_INET else 6
            instead = f": {self.instead}" if self.instead else ""
            raise UnsupportedError(f"{self.role} is not available for IPv{version} on {platform}{instead}")
        return place

    def pack(self, value: T, family: int, platform: Platform = CURRENT) -> bytes:
        """The octets for setsockopt; ValueError for a value that the option cannot hold, else errors as place()."""
        place = self.place(family, platform)
        if place.codec.pack is None:
            raise ValueError(f"{self.role} ({place.name}) can only be read")
        try:
            return place.codec.pack(value, platform)
        except ValueError as error:
            raise ValueError(f"{self.role} {error}") from None

    def unpack(self, data: bytes, family: int, platform: Platform = CURRENT) -> T:
        """The value in the octets that getsockopt gave; ValueError for requests, which cannot be read."""
        place = self.place(family, platform)
        if place.codec.unpack is None:
            raise ValueError(f"{self.role} ({place.name}) cannot be read")
        return place.codec.unpack(data)

    def _find(self, family: int, platform: Platform) -> Place[T] | None:
        for row in self.rows:
            number = row.number(platform)
            if row.serves(family) and number is not None:
                return Place(row.name, _level(row.name, family, platform), number, row.codec)
        return None


_FAMILIES = {"IP": socket.AF_INET, "IPV6": socket.AF_INET6}
_SOL_SOCKET = {Platform.LINUX: 1, Platform.WINDOWS: 0xFFFF, Platform.MACOS: 0xFFFF}
_IPPROTO_UDP = 17
_IPPROTO_IP = 0
_IPPROTO_IPV6 = 41


def _level(name: str, family: int, platform: Platform) -> int:
    if name.startswith("SO_"):
        return _SOL_SOCKET[platform]
    if name.startswith("UDP_"):
        return _IPPROTO_UDP
    return _IPPROTO_IP if family == socket.AF_INET else _IPPROTO_IPV6


def set_option(
    sock: SocketLike,
    option: Option[T],
    value: T,
    *,
    family: int | None = None,
    operation: Operation = Operation.SET,
    operands: str = "",
) -> None:
    """Set an option of a socket; `operation` and `operands` word the error, by default `set IP_TTL to 300`.

    `family` is the socket's unless given: an IPv6 socket that takes IPv4 as well may have the options of both. Raises
    UnsupportedError where this system lacks the option for the family, ValueError for a value that it cannot hold,
    OSError with cause and remedy where the system refuses.
    """
    family = sock.family if family is None else family
    place = option.place(family)
    data = option.pack(value, family)
    try:
        sock.setsockopt(place.level, place.number, data)
    except OSError as error:
        operands = operands or f"{place.name} to {value}"
        raise os_error(operation, operands, error, family=family) from None


def get_option(sock: SocketLike, option: Option[T]) -> T:
    """The present value of an option; errors as set_option()."""
    place = option.place(sock.family)
    try:
        data = sock.getsockopt(place.level, place.number, place.codec.size)
    except OSError as error:
        raise os_error(Operation.GET, place.name, error, family=sock.family) from None
    return option.unpack(data, sock.family)


# Sending

MULTICAST_HOPS = Option(
    "TTL or hop limit of multicast",
    (
        Row("IP_MULTICAST_TTL", packing.OCTET, linux=33, windows=10, macos=10),
        Row("IPV6_MULTICAST_HOPS", packing.OCTET, linux=18, windows=10, macos=10),
    ),
)
UNICAST_HOPS = Option(
    "TTL or hop limit of unicast",
    (
        Row("IP_TTL", packing.OCTET, linux=2, windows=4, macos=4),
        Row("IPV6_UNICAST_HOPS", packing.OCTET, linux=16, windows=4, macos=4),
    ),
)
LOOPBACK = Option(
    "loopback of multicast",  # acts on the sender; on Windows on the receiver
    (
        Row("IP_MULTICAST_LOOP", packing.FLAG, linux=34, windows=11, macos=11),
        Row("IPV6_MULTICAST_LOOP", packing.FLAG, linux=19, windows=11, macos=11),
    ),
)
EGRESS: Option[Egress] = Option(
    "egress interface",
    (
        Row("IP_MULTICAST_IF", packing.EGRESS_LINUX, linux=32),
        Row("IP_MULTICAST_IF", packing.EGRESS_WINDOWS, windows=9),
        Row("IP_MULTICAST_IF", packing.EGRESS_MREQN, macos=9),
        Row("IPV6_MULTICAST_IF", packing.EGRESS_INDEX, linux=17, windows=9, macos=9),
    ),
)
TOS = Option(
    "type of service or traffic class",
    (
        Row("IP_TOS", packing.OCTET, linux=1, windows=3, macos=3),
        Row("IPV6_TCLASS", packing.OCTET, linux=67, macos=36),  # Windows has the number, and answers WSAENOPROTOOPT
    ),
    instead="the system's own policies decide (QoS)",
)
PATH_MTU_DISCOVERY: Option[PathMtu] = Option(
    "path-MTU discovery",
    (
        Row("IP_MTU_DISCOVER", packing.PATH_MTU_LINUX, linux=10),
        Row("IP_MTU_DISCOVER", packing.PATH_MTU_WINDOWS, windows=71),
        Row("IP_DONTFRAG", packing.DONT_FRAGMENT, macos=28),
        Row("IPV6_MTU_DISCOVER", packing.PATH_MTU_LINUX, linux=23),
        Row("IPV6_MTU_DISCOVER", packing.PATH_MTU_WINDOWS, windows=71),
        Row("IPV6_DONTFRAG", packing.DONT_FRAGMENT, macos=62),
    ),
)
PATH_MTU = Option(
    "MTU of a connected socket's path",
    (
        Row("IP_MTU", packing.READ_SIZE, linux=14, windows=73),
        Row("IPV6_MTU", packing.READ_SIZE, linux=24, windows=72),
    ),
    instead="the interface's mtu is the upper limit",
)
BROADCAST = Option(
    "sending to broadcast addresses",  # IPv4's: socket(7)
    (Row("SO_BROADCAST", packing.FLAG, linux=6, windows=0x20, macos=0x20),),
)
RECEIVE_ERRORS = Option(
    "queue of late errors",  # also reports a full device queue as ENOBUFS: ip(7)
    (Row("IP_RECVERR", packing.FLAG, linux=11), Row("IPV6_RECVERR", packing.FLAG, linux=25)),
    instead="errors come with the next call",
)

# Binding and sharing

REUSE_ADDRESS = Option("address reuse", (Row("SO_REUSEADDR", packing.FLAG, linux=2, windows=4, macos=4),))
REUSE_PORT = Option(
    "port reuse",
    (Row("SO_REUSEPORT", packing.FLAG, linux=15, macos=0x200),),
    instead="address reuse alone shares a port",
)
SHARING: Mapping[Platform, tuple[Option[bool], ...]] = {
    Platform.LINUX: (REUSE_ADDRESS,),
    Platform.WINDOWS: (REUSE_ADDRESS,),
    Platform.MACOS: (REUSE_ADDRESS, REUSE_PORT),
}
"""What shares a multicast port with other sockets: macOS wants both of every one of them."""

EXCLUSIVE_ADDRESS = Option(
    "exclusive use of an address",
    (Row("SO_EXCLUSIVEADDRUSE", packing.FLAG, windows=-5),),
    instead="a socket that does not share its port keeps it to itself",
)
KEEPING: Mapping[Platform, tuple[Option[bool], ...]] = {
    Platform.LINUX: (),
    Platform.WINDOWS: (EXCLUSIVE_ADDRESS,),
    Platform.MACOS: (),
}
"""What keeps a port to one socket: on Windows any other that asks for address reuse could have it, too."""

V6ONLY = Option("IPv6 only", (Row("IPV6_V6ONLY", packing.FLAG, linux=26, windows=27, macos=27),))
BOUND_INTERFACE = Option(
    "binding to an interface",
    (
        Row("SO_BINDTOIFINDEX", packing.INDEX, linux=62),
        Row("IP_BOUND_IF", packing.INDEX, macos=25),
        Row("IPV6_BOUND_IF", packing.INDEX, macos=125),
    ),
    instead="bind the wildcard address and filter by the interface of the packet information",
)
BOUND_DEVICE = Option(
    "binding to a device by name",
    (Row("SO_BINDTODEVICE", packing.DEVICE, linux=25),),
    instead="bind to the interface by its index",
)
MULTICAST_ALL = Option(
    "delivery of groups that other sockets joined",
    (Row("IP_MULTICAST_ALL", packing.FLAG, linux=49), Row("IPV6_MULTICAST_ALL", packing.FLAG, linux=29)),
    instead="a socket gets the groups that it joined",
)

# Receiving

PACKET_INFO = Option(
    "packet information",
    (
        Row("IP_PKTINFO", packing.FLAG, linux=8, windows=19, macos=26),
        Row("IPV6_RECVPKTINFO", packing.FLAG, linux=49, macos=61),
        Row("IPV6_PKTINFO", packing.FLAG, windows=19),
    ),
)
RECEIVE_HOPS = Option(
    "TTL or hop limit of what is received",
    (
        Row("IP_RECVTTL", packing.FLAG, linux=12, windows=21, macos=24),
        Row("IPV6_RECVHOPLIMIT", packing.FLAG, linux=51, macos=37),
        Row("IPV6_HOPLIMIT", packing.FLAG, windows=21),
    ),
)
RECEIVE_TOS = Option(
    "type of service or traffic class of what is received",
    (
        Row("IP_RECVTOS", packing.FLAG, linux=13, windows=40, macos=27),
        Row("IPV6_RECVTCLASS", packing.FLAG, linux=66, windows=40, macos=35),
    ),
)
# By the numbers of the messages that the core reads: with 32 bits and a 64-bit time_t they are 64 and 65.
TIMESTAMPS = Option(
    "kernel timestamps",  # a timespec on Linux, a timeval on macOS
    (
        Row("SO_TIMESTAMPNS", packing.FLAG, linux=_core.SO_TIMESTAMPNS or 35),
        Row("SO_TIMESTAMP", packing.FLAG, macos=0x400),
    ),
    instead="read the clock when a batch has come",
)
HARDWARE_TIMESTAMPS = Option(
    "timestamps of the network device",
    (Row("SO_TIMESTAMPING", packing.TIMESTAMPING, linux=_core.SO_TIMESTAMPING or 37),),
    instead='metadata="timestamp" gives the kernel\'s',
)
DROP_COUNTER = Option(
    "drop counter with each datagram",
    (Row("SO_RXQ_OVFL", packing.FLAG, linux=40),),
    instead="gaps in the sender's sequence numbers show loss",
)
MEMORY = Option(
    "memory and drops of a socket",
    (Row("SO_MEMINFO", packing.MEMORY, linux=55),),
    instead="gaps in the sender's sequence numbers show loss",
)

# Trains of datagrams

SEGMENT = Option(
    "segmented sending",
    (Row("UDP_SEGMENT", packing.SIZE, linux=103),),
    instead="send_batch sends each datagram by itself",
)
COALESCE = Option(
    "coalesced receiving",
    (Row("UDP_GRO", packing.FLAG, linux=104),),
    instead="a batch receives each datagram by itself",
)

# Waiting

BUSY_POLL = Option("busy polling", (Row("SO_BUSY_POLL", packing.SIZE, linux=46),), instead="spin= watches the socket")
PREFER_BUSY_POLL = Option(
    "preferred busy polling",
    (Row("SO_PREFER_BUSY_POLL", packing.FLAG, linux=69),),
    instead="spin= watches the socket",
)

# Buffers: set by set_buffer() of buffers.py

RECEIVE_BUFFER = Option("receive buffer", (Row("SO_RCVBUF", packing.SIZE, linux=8, windows=0x1002, macos=0x1002),))
SEND_BUFFER = Option("send buffer", (Row("SO_SNDBUF", packing.SIZE, linux=7, windows=0x1001, macos=0x1001),))
FORCED_RECEIVE_BUFFER = Option(
    "forced receive buffer",
    (Row("SO_RCVBUFFORCE", packing.SIZE, linux=33),),
    instead="raise the system's limit",
)
FORCED_SEND_BUFFER = Option(
    "forced send buffer",
    (Row("SO_SNDBUFFORCE", packing.SIZE, linux=32),),
    instead="raise the system's limit",
)
