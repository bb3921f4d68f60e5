"""Socket buffers: ask for a size, pass the system's limit where that is allowed, and say what was granted."""

from __future__ import annotations

import errno
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

if TYPE_CHECKING:
    from mcastfast.options import Option, SocketLike

_FORCED = {
    RECEIVE_BUFFER.role: (FORCED_RECEIVE_BUFFER, "net.core.rmem_max"),
    SEND_BUFFER.role: (FORCED_SEND_BUFFER, "net.core.wmem_max"),
}
_LEAST = 2048  # what no system refuses


class BufferClampedWarning(RuntimeWarning):
    """The system granted a smaller buffer than was asked for; the text names both and the limit."""


def set_buffer(sock: SocketLike, option: Option[int], size: int, *, stacklevel: int = 2) -> int:
    """Set RECEIVE_BUFFER or SEND_BUFFER as near to `size` octets as the system allows, and return what it granted.

    Both are in the unit of setsockopt: Linux reserves, and reads back, twice as much, for its own bookkeeping of each
    datagram. The system's limit is passed where this process may (CAP_NET_ADMIN, Linux). Where less is granted, a
    BufferClampedWarning names the limit; it points `stacklevel` frames up, as warnings.warn() counts.
    """
    attempt = size
    while True:
        try:
            set_option(sock, option, attempt)
            break
        except OSError as error:
            if error.errno != errno.ENOBUFS or attempt <= _LEAST:  # macOS refuses what Linux would clamp
                raise
            attempt = max(attempt // 2, _LEAST)
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


def _granted(sock: SocketLike, option: Option[int]) -> int:
    size = get_option(sock, option)
    return size // 2 if CURRENT is Platform.LINUX else size


def _limit_remedy(limit: str, size: int) -> str:
    if CURRENT is Platform.MACOS:
        return f"the limit is kern.ipc.maxsockbuf, raise it with sysctl -w kern.ipc.maxsockbuf={size}"
    return f"the limit is {limit} = {sysctl(limit)}, raise it with sysctl -w {limit}={size} or run with CAP_NET_ADMIN"
