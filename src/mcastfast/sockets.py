"""The sockets that receivers and senders hold: where they come from, and how they end."""

from __future__ import annotations

import errno
import socket
import warnings
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self, TypeAlias

from mcastfast._core import Gate, begin_socket, end_socket
from mcastfast.address import unmapped
from mcastfast.errors import Operation, os_error
from mcastfast.options import V6ONLY, set_option

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""(host, port), IPv6 (host, port, flow information, scope), as the socket module gives it."""


def check_datagram_socket(sock: object, call: str) -> None:
    """Raise TypeError for what is not a socket, ValueError for one that is closed or not an IP datagram socket."""
    if not isinstance(sock, socket.socket):
        raise TypeError(f"{call} takes a socket.socket, not {type(sock).__name__}")
    if sock.fileno() < 0:
        raise ValueError(f"{call}: the socket is closed")
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_DGRAM:
        raise ValueError(
            f"{call} takes an AF_INET or AF_INET6 socket of type SOCK_DGRAM, not {sock.family.name} {sock.type.name}"
        )


def open_socket(family: int) -> socket.socket:
    """A new datagram socket of this family alone; OSError with the remedy where there cannot be one more."""
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        name = "an IPv4" if family == socket.AF_INET else "an IPv6"
        raise os_error(Operation.OPEN, f"{name} socket", error, family=family) from error
    if family == socket.AF_INET6:
        try:
            set_option(sock, V6ONLY, True)
        except BaseException:
            sock.close()
            raise
    return sock


def bound_port(sock: socket.socket) -> int:
    """The port of a socket, 0 where it has none; Windows does not tell the address of one that is not bound."""
    try:
        port: int = sock.getsockname()[1]
    except OSError:
        return 0
    return port


def host_of(address: SocketAddress) -> IPv4Address | IPv6Address:
    """The host of a socket address, without its scope; IPv4 also where an IPv6 socket has it."""
    return unmapped(ip_address(address[0]))


def let_go(sock: socket.socket) -> None:
    """Make a socket what it was before somebody held it: one whose calls wait, or not."""
    end_socket(sock.fileno(), sock.gettimeout() is None)


HELD = ("_address", "_ends", "_socket")
"""The slots of a SocketHolder; its subclasses have them, for it shares its layout with the core of each."""


class SocketHolder(Gate):
    """The socket of a Receiver or a Sender, and its end; str() says which it is.

    Without a dictionary: an attribute that it has not is refused, where it would be set and do nothing.
    """

    __slots__ = ()

    _address: SocketAddress
    _socket: socket.socket
    _ends: dict[str, object]

    def _hold(self, sock: socket.socket, *, is_ours: bool) -> None:
        begin_socket(sock.fileno(), is_ours)
        self._ends = {}
        self._socket = sock
        self._address = sock.getsockname()

    def _ends_by(self, way: object) -> bool:
        """Whether this is how the socket ends: what is asked about first, by any thread, is."""
        return self._ends.setdefault("way", way) is way

    @property
    def address(self) -> SocketAddress:
        """What the socket is bound to, as socket.getsockname gives it; still there after close()."""
        return self._address

    def fileno(self) -> int:
        """The socket's descriptor, for select and its kin; -1 after close()."""
        return -1 if self.closed else self._socket.fileno()

    def close(self) -> None:
        """Close the socket. A second close does nothing.

        A call that another thread is blocked in raises OSError(EBADF). The iteration over a receiver ends, its batches
        stay valid, and the kernel leaves its groups when no other process holds the socket.
        """
        is_closed_here = self._ends_by("close")
        self._end()
        if is_closed_here:
            self._socket.close()

    def detach(self) -> socket.socket:
        """Give the socket back, as it is, and be closed. OSError(EBADF): closed before."""
        if not self._ends_by(object()):
            raise OSError(errno.EBADF, f"detach of {self}: it is closed")
        try:
            self._end()
        except BaseException:
            self._ends["way"] = "close"
            raise
        let_go(self._socket)
        return self._socket

    def _end(self) -> None:
        """Take the socket out of use; a second call does what is left of that."""
        self._shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.closed:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            finally:
                self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}{' (closed)' if self.closed else ''}>"

    def _described(self) -> str:
        return str(self)
