"""Buffers: what is granted is reported, and a clamp is never silent."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from mcastfast import buffers, options
from mcastfast.buffers import BufferClampedWarning, set_buffer
from mcastfast.errors import Platform, sysctl

if TYPE_CHECKING:
    from mcastfast.options import Option

BOTH = pytest.mark.parametrize(
    ("option", "limit"),
    [(options.RECEIVE_BUFFER, "net.core.rmem_max"), (options.SEND_BUFFER, "net.core.wmem_max")],
    ids=["receive", "send"],
)


class MacSocket:
    """Refuses a buffer over its limit with ENOBUFS, as macOS does over kern.ipc.maxsockbuf, and reads back as set."""

    family = socket.AF_INET

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = b""
        self.refused = 0

    def setsockopt(self, _level: int, _number: int, value: bytes, /) -> None:
        if int.from_bytes(value, "little") > self.limit:
            self.refused += 1
            raise OSError(errno.ENOBUFS, "No buffer space available")
        self.size = value

    def getsockopt(self, _level: int, _number: int, _size: int, /) -> bytes:
        return self.size


class ClampingSocket(MacSocket):
    """Grants no more than its limit, as Linux does, and refuses to be forced."""

    def setsockopt(self, _level: int, number: int, value: bytes, /) -> None:
        if number in (32, 33):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        granted = 2 * min(int.from_bytes(value, "little"), self.limit)
        self.size = granted.to_bytes(4, "little")


@BOTH
def test_size_within_the_limit_is_granted_in_the_unit_it_was_asked_in(option: Option[int], limit: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert set_buffer(sock, option, 65536) == 65536
        assert options.get_option(sock, option) == 2 * 65536


@BOTH
@pytest.mark.needs("forced_buffer")
def test_limit_is_passed_where_the_process_may(option: Option[int], limit: str) -> None:
    beyond = int(sysctl(limit)) + 65536
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert set_buffer(sock, option, beyond) == beyond


@BOTH
def test_clamp_is_a_warning_that_names_both_sizes_and_the_limit(option: Option[int], limit: str) -> None:
    sock = ClampingSocket(100_000)
    with pytest.warns(BufferClampedWarning) as caught:
        granted = set_buffer(sock, option, 1_000_000, stacklevel=1)
    assert granted == 100_000
    text = str(caught[0].message)
    assert f"{option.role}: asked for 1000000 octets, the system grants 100000" in text
    assert f"{limit} = {sysctl(limit)}" in text
    assert caught[0].filename == __file__


def test_size_that_is_refused_is_halved_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "CURRENT", Platform.MACOS)
    sock = MacSocket(300_000)
    with pytest.warns(BufferClampedWarning, match=r"grants 250000: the limit is kern\.ipc\.maxsockbuf"):
        assert set_buffer(sock, options.RECEIVE_BUFFER, 1_000_000) == 250_000


def test_socket_that_refuses_every_size_is_an_error() -> None:
    sock = MacSocket(0)
    with pytest.raises(OSError, match="set SO_RCVBUF to 2048: ") as caught:
        set_buffer(sock, options.RECEIVE_BUFFER, 1_000_000)
    assert caught.value.errno == errno.ENOBUFS
    assert sock.refused < 12


def test_size_below_the_least_of_the_system_is_raised_without_a_warning() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert set_buffer(sock, options.RECEIVE_BUFFER, 1) >= 1
