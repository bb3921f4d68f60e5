"""Loopback feeds for the tests of batches and memory: receivers, senders, payloads that say what they must be."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netlab import in_poll, wait_until

from mcastfast import Batch, Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

PATIENCE = 20.0
"""Seconds after which something that must happen has not."""

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}

_HEADER = struct.Struct("<Q")
_PATTERN = bytes(range(256)) * 8


def payload(number: int) -> bytes:
    """The payload of a datagram by its number: 8 to 207 bytes of which every one depends on the number."""
    start = number * 31 % 256
    return _HEADER.pack(number) + _PATTERN[start : start + number * 7919 % 200]


def number_of(data: Buffer) -> int:
    """The number of the datagram that payload() made."""
    return int(_HEADER.unpack_from(data)[0])


def ahead(engine: str) -> int:
    """How many arenas are being filled before anyone asks for what is in them."""
    return int(engine == "iocp")


@dataclass(frozen=True, slots=True)
class Feed:
    """A receiver on a loopback address and a sender connected to it."""

    receiver: Receiver
    sender: Sender

    def send(self, *payloads: bytes) -> None:
        self.sender.send_batch(payloads)

    def receive(self, count: int) -> list[Batch]:
        """Batches with so many datagrams together."""
        batches = []
        while count > 0:
            batches.append(self.receiver.recv_batch(PATIENCE))
            count -= len(batches[-1])
        assert count == 0
        return batches

    def batch(self, *payloads: bytes) -> Batch:
        """One batch of these datagrams."""
        self.send(*payloads)
        (batch,) = self.receive(len(payloads))
        return batch


def bound_socket(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.bind((HOSTS[socket.AddressFamily(family)], 0))
    except OSError:
        sock.close()
        raise
    return sock


def connected_sender(address: tuple[Any, ...], family: int = socket.AF_INET) -> Sender:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.connect(address)
    return Sender.from_socket(sock)


def duplicate(fileno: int) -> socket.socket:
    """A further socket object, and descriptor, for an open socket."""
    original = socket.socket(fileno=fileno)
    try:
        return original.dup()
    finally:
        original.detach()


@contextlib.contextmanager
def feed(family: int = socket.AF_INET, **options: Any) -> Iterator[Feed]:
    """A unicast feed over lo; options as Receiver.from_socket takes them."""
    sock = bound_socket(family)
    try:
        receiver = Receiver.from_socket(sock, **options)
    except BaseException:
        sock.close()
        raise
    with receiver, connected_sender(receiver.address, family) as sender:
        yield Feed(receiver, sender)


class Worker(threading.Thread):
    """A thread whose exception or result is join()'s, and which cannot hang a test."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread did not end"
        if self._error is not None:
            raise self._error
        return self._result

    def error(self) -> BaseException | None:
        """The exception that ended it, None if there was none."""
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread did not end"
        return self._error


def wait_until_blocked(*threads: threading.Thread) -> None:
    """Return when each of these threads waits in poll(2), by the kernel's own account."""
    for thread in threads:
        wait_until(in_poll(thread), PATIENCE, what=f"{thread} blocks")


def assert_all(batches: Iterable[Batch], expected: list[bytes]) -> None:
    assert [bytes(datagram) for batch in batches for datagram in batch] == expected
