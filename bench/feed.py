"""A feed: one socket that has joined a group on the loopback interface, and one that sends to it."""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
from time import sleep
from typing import TYPE_CHECKING, Any

import mcastfast
from bench.climit import SLOTS
from bench.namespace import LOOPBACK_INDEX

if TYPE_CHECKING:
    from ctypes import Array, c_char

    from bench.climit import Limit

BUFFER = 8 << 20  # bytes; 512 datagrams of 1400 bytes are charged with less than 2 MiB

_PIECE = 512  # datagrams
_CATCH_UP = 0.0005  # seconds

_GROUPS = {socket.AF_INET: "239.1.2.3", socket.AF_INET6: "ff15::1"}
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_SK_MEMINFO_DROPS = 8
_IP_PKTINFO = 8
_IP_MULTICAST_ALL = 49
_SO_TIMESTAMPNS = 35
_SO_RXQ_OVFL = 40
UDP_SEGMENT = 103
_UDP_GRO = 104


class Feed:
    """A receiver of one group and a connected sender; both are non-blocking sockets.

    Datagrams are offered in trains of up to `segments`; they are the rows where there are any (of size bytes each).
    One that is no member keeps the port for a packet ring, which gets them instead of the socket.
    """

    def __init__(
        self,
        limit: Limit,
        size: int,
        *,
        family: socket.AddressFamily = socket.AF_INET,
        segments: int = SLOTS,
        rows: Array[c_char] | None = None,
        is_member: bool = True,
    ) -> None:
        self._limit = limit
        self.size = size
        self.segments = segments
        self.rows = rows
        self.group = _GROUPS[family]
        self.receiver = socket.socket(family, socket.SOCK_DGRAM)
        self.sender = connected_sender(family, 0)
        self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a packet ring has a socket beside it
        _enlarge_receive_buffer(self.receiver)
        self.receiver.bind((_GROUPS[family], 0))
        if is_member:
            self.receiver.setsockopt(*_membership(family))
        else:
            self.receiver.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # nor what others have joined
        self.receiver.setblocking(False)
        self.sender.connect((_GROUPS[family], self.receiver.getsockname()[1]))
        self._monitor = self.receiver.dup()
        self._aside = _self_connected()
        self._random = random.Random(size)

    def close(self) -> None:
        for sock in (self.receiver, self.sender, self._monitor, self._aside):
            sock.close()

    def receive_by(self, engine: str, **arguments: Any) -> mcastfast.Receiver:
        """Return a receiver of the group, opened as users do, in place of the socket."""
        port, buffer = self.receiver.getsockname()[1], self.granted // 2
        self.receiver.close()
        self._monitor.close()
        made = mcastfast.Receiver(
            self.group, port=port, interface=LOOPBACK_INDEX, receive_buffer=buffer, engine=engine, **arguments
        )
        self._monitor = socket.socket(fileno=os.dup(made.fileno()))
        return made

    def send_by(self, engine: str, *, segment: bool) -> mcastfast.Sender:
        """Return a sender to the group, opened as users do, beside the socket."""
        port = self.receiver.getsockname()[1]
        return mcastfast.Sender(self.group, port=port, interface=LOOPBACK_INDEX, engine=engine, segment=segment)

    def ask_for_metadata(self) -> None:
        """Have the kernel send destination, timestamp and drop counter with each datagram (IPv4)."""
        self.receiver.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self.receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.receiver.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)

    def coalesce(self) -> None:
        """Have the kernel leave trains together (UDP_GRO)."""
        self.receiver.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)

    def fill(self, count: int) -> None:
        """Offer so many datagrams. After each few hundred it lets the kernel catch up: what waits for a softirq of its
        own is dropped beyond net.core.netdev_max_backlog (1000).
        """
        self.move_on()
        for piece in range(0, count, _PIECE):
            if piece:
                sleep(_CATCH_UP)
            size = min(_PIECE, count - piece)
            self._limit.fill(self.sender.fileno(), size, self.size, segments=self.segments, rows=self.rows)

    def move_on(self) -> None:
        """Have the next train of this process lie elsewhere within its page of the kernel's.

        Some copies (AMD since Zen 3: 1 to 31 bytes behind their source, modulo 4096) take many times as long, and who
        comes by one would do so in every turn: what is sent in a turn is a whole number of pages.
        """
        size = 64 * self._random.randrange(1, 32)
        self._aside.sendmsg([bytes(2 * size)], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))])
        self._aside.recv(2 * size)

    @property
    def drops(self) -> int:
        """What the kernel dropped at the receiving socket so far (SO_MEMINFO)."""
        answer = self._monitor.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
        return int(struct.unpack("9I", answer)[_SK_MEMINFO_DROPS])

    @property
    def granted(self) -> int:
        """Bytes of receive buffer, as the kernel counts them."""
        return self._monitor.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def start_paced_sender(self, count: int, gap: int) -> subprocess.Popen[bytes]:
        """Send so many datagrams from another process, one every gap nanoseconds; each starts with its time (i8)."""
        descriptor = self.sender.fileno()
        command = [str(self._limit.paced), str(descriptor), str(count), str(self.size), str(gap)]
        return subprocess.Popen(command, pass_fds=[descriptor])


def connected_sender(family: socket.AddressFamily, port: int) -> socket.socket:
    """Return a socket that sends to the group over lo; with port 0 the caller connects it."""
    sender = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        request = struct.pack("4x4si", socket.inet_aton("127.0.0.1"), LOOPBACK_INDEX)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
    else:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, LOOPBACK_INDEX)
    sender.setblocking(False)
    if port:
        sender.connect((_GROUPS[family], port))
    return sender


def _self_connected() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    sock.bind(("127.0.0.1", 0))
    sock.connect(sock.getsockname())
    return sock


def _membership(family: socket.AddressFamily) -> tuple[int, int, bytes]:
    group = socket.inet_pton(family, _GROUPS[family])
    if family == socket.AF_INET:
        request = struct.pack("4s4si", group, socket.inet_aton("127.0.0.1"), LOOPBACK_INDEX)
        return socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request
    return socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("@I", LOOPBACK_INDEX)


def _enlarge_receive_buffer(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
