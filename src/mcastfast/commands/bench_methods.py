"""The ways of receiving that `mcastfast bench` compares, all over the same kind of socket."""

from __future__ import annotations

import struct
import warnings
from typing import TYPE_CHECKING, NamedTuple

from mcastfast import BufferClampedWarning, Receiver
from mcastfast.options import Option, Row, set_option
from mcastfast.packing import Codec

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from mcastfast import Interface

BATCH = 64
PATIENCE = 0.1
"""Seconds that a call waits for a datagram."""

BUFFER = 8 * 2**20
"""Bytes of receive buffer to ask for; the system's limit may be lower."""

# So that a blocked socket.recvfrom comes back: settimeout() would cost it a second system call for each datagram.
_RECEIVE_TIMEOUT: Option[float] = Option(
    "receive timeout",
    (Row("SO_RCVTIMEO", Codec(16, lambda seconds, _: struct.pack("@ll", 0, int(seconds * 1e6)), None), linux=20),),
)


def open_socket(group: str, interface: Interface) -> socket.socket:
    """A plain socket that has joined, with as much buffer as the system grants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BufferClampedWarning)
        return Receiver(group, interface=interface, receive_buffer=BUFFER).detach()


class Batches:
    """mcastfast as it is fastest: lengths and source addresses are in the batch, payloads in its memory."""

    def __init__(self, sock: socket.socket, size: int, engine: str) -> None:
        self._receiver = Receiver.from_socket(sock, batch_size=BATCH, max_datagram=max(size, 2048), engine=engine)

    def take(self, most: int) -> int:
        """Receive a batch: what is there, so that `most` makes no difference."""
        del most
        try:
            return len(self._receiver.recv_batch(PATIENCE))
        except TimeoutError:
            return 0

    def close(self) -> None:
        """Close the socket."""
        self._receiver.close()


class Copies(Batches):
    """mcastfast, made to do what socket.recvfrom does: a bytes object and an address for each datagram."""

    def take(self, most: int) -> int:
        """Receive a batch and take each datagram out of it."""
        del most
        try:
            batch = self._receiver.recv_batch(PATIENCE)
        except TimeoutError:
            return 0
        for datagram in batch:
            _ = (bytes(datagram), datagram.source)
        return len(batch)


class RecvFrom:
    """The socket module: one datagram a call."""

    def __init__(self, sock: socket.socket, size: int, engine: str) -> None:
        del engine
        set_option(sock, _RECEIVE_TIMEOUT, PATIENCE)
        self._socket = sock
        self._size = max(size, 2048)

    def take(self, most: int) -> int:
        """Call it so often."""
        receive, size = self._socket.recvfrom, self._size
        number = 0
        try:
            while number < most:
                receive(size)
                number += 1
        except BlockingIOError:
            pass
        return number

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Method(NamedTuple):
    """A way of receiving, and how it is called."""

    name: str
    title: str
    make: Callable[[socket.socket, int, str], Batches | RecvFrom]


BASE = Method("recvfrom", "socket.recvfrom", RecvFrom)
METHODS = (
    Method("batches", "mcastfast, batches", Batches),
    Method("copies", "mcastfast, each as bytes", Copies),
    BASE,
)
