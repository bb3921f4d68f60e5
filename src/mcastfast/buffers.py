"""Socket buffers: ask for a size, pass the system's limit where that is allowed, and say what was granted."""

from __future__ import annotations

import errno
import socket
import warnings
from typing import TYPE_CHECKING

from mcastfast.errors import CURRENT, Platform, sysctl
from mcastfast.options import (
    FORCED_RECEIVE_BUFFER,
    FORCED_SEND_BUFFER,
    RECEIVE_BUFFER,
    SEND_BUFFER,
    get_option,
    set_option,
)
from mcastfast.sizes import parse_octets

if TYPE_CHECKING:
    from mcastfast.options import Option, SocketLike
    from mcastfast.sizes import Size

_FORCED = {
    RECEIVE_BUFFER.role: (FORCED_RECEIVE_BUFFER, "net.core.rmem_max"),
    SEND_BUFFER.role: (FORCED_SEND_BUFFER, "net.core.wmem_max"),
}
_LEAST = 2048  # what no system refuses
# What to ask for where the largest is wanted: Linux doubles it, Windows grants it all and takes it from the kernel's
# own memory as it fills.
_MOST = 2**26 if CURRENT is Platform.WINDOWS else 2**30


class BufferClampedWarning(RuntimeWarning):
    """The system granted a smaller buffer than was asked for; the text names both and the limit."""


def read_buffer(size: Size | None, option: Option[int], family: int, *, what: str) -> int | None:
    """A size as bytes that the option can hold, None as itself; `what` names it in errors: ValueError, TypeError."""
    if size is None:
        return None
    octets = parse_octets(size, what=what)
    option.pack(octets, family)
    return octets


def set_buffer(sock: SocketLike, option: Option[int], size: int, *, stacklevel: int = 2) -> int:
    """Set RECEIVE_BUFFER or SEND_BUFFER as near to `size` octets as the system allows, and return what it granted.

    Both are in the unit of setsockopt: Linux reserves, and reads back, twice as much, for its own bookkeeping of each
    datagram. The system's limit is passed where this process may (CAP_NET_ADMIN, Linux). Where less is granted, a
    BufferClampedWarning names the limit; it points `stacklevel` frames up, as warnings.warn() counts.
    """
    _set_or_halve(sock, option, size)
    forced, limit = _FORCED[option.role]
    if _granted(sock, option) < size and forced.supported(sock.family, CURRENT):
        try:
            set_option(sock, forced, size)
        except PermissionError:
            pass
    granted = _granted(sock, option)
    if granted < size:
        warnings.warn(
            f"{option.role}: asked for {size} octets, the system grants {granted}: {_limit_remedy(limit, size)}",
            BufferClampedWarning,
            stacklevel=stacklevel + 1,
        )
    return granted


def set_largest_receive_buffer(sock: SocketLike) -> None:
    """Ask for the largest receive buffer that anyone is granted, if that is more than the socket has.

    What would be granted another socket tells: the default may lie above the limit (net.core.rmem_default), and whoever
    asks then gets less.
    """
    with socket.socket(sock.family, socket.SOCK_DGRAM) as probe:
        _set_or_halve(probe, RECEIVE_BUFFER, _MOST)
        if get_option(probe, RECEIVE_BUFFER) > get_option(sock, RECEIVE_BUFFER):
            _set_or_halve(sock, RECEIVE_BUFFER, _MOST)


def _set_or_halve(sock: SocketLike, option: Option[int], size: int) -> None:
    """Set the buffer; macOS refuses what Linux would clamp, and gets half as much until it agrees."""
    while True:
        try:
            set_option(sock, option, size)
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS or size <= _LEAST:
                raise
            size = max(size // 2, _LEAST)


def _granted(sock: SocketLike, option: Option[int]) -> int:
    size = get_option(sock, option)
    return size // 2 if CURRENT is Platform.LINUX else size


def _limit_remedy(limit: str, size: int) -> str:
    if CURRENT is Platform.WINDOWS:
        return "that is all it has"
    if CURRENT is Platform.MACOS:
        return f"the limit is kern.ipc.maxsockbuf, raise it with sysctl -w kern.ipc.maxsockbuf={size}"
    return f"the limit is {limit} = {sysctl(limit)}, raise it with sysctl -w {limit}={size} or run with CAP_NET_ADMIN"
