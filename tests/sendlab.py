"""What tests of senders share: a receiver across a wire, and one that is blocked or slow on demand."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, Any, Self

import netlab
from receivelab import PORT, TIMEOUT, V4, at, plain_socket

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab import Lan
    from receivelab import Family

    from mcastfast import Datagram

LARGE = 1400
"""Bytes of a payload of which a blocked wire lets through one in four seconds, and the least send buffer holds few."""
END = b"the end of what a test sent"


ENOUGH = 20
"""Trains of one size in a row after which their option is kept."""


def alike(size: int, count: int) -> list[bytes]:
    """So many payloads of that even size, no two the same."""
    return [number.to_bytes(2, "big") * (size // 2) for number in range(count)]


def as_rows(payloads: list[bytes]) -> Any:
    """Payloads of one size as an array."""
    import numpy as np  # conftest.py imports this file, and NumPy starts threads: see netlab.enter_private_network

    return np.array([np.frombuffer(payload, "u1") for payload in payloads])


def sent(error: BaseException) -> int:
    """How many datagrams had gone before the error."""
    number = getattr(error, "sent", None)
    assert isinstance(number, int), f"{error!r} does not say how many went"
    return number


def in_child(task: Callable[[], None]) -> None:
    """Run the task in a forked child; AssertionError if it fails or hangs there."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(round(TIMEOUT))
            task()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Wire:
    """A receiver, and what senders at the other end of a veth pair send to its group.

    One processor does it all: across a veth pair each has a queue of its own, and datagrams that a throttled wire lets
    through on different ones overtake each other.
    """

    def __init__(self, lan: Lan, family: Family, engine: str) -> None:
        self.family = family
        self.engine = engine
        there, self.link = netlab.receiving_first(lan)
        self.group = at(family.group, self.link)
        self._stack = contextlib.ExitStack()
        options: dict[str, Any] = {
            "metadata": ("destination", "hops", "tos"),
            "batch_size": 16,
            "max_datagram": 65535,
            "receive_buffer": 212_992,  # what systems grant to anyone
            "engine": engine,
        }
        receiver = netlab.receiver_behind(there, family.group, **options)
        if receiver is None:
            with there.namespace:
                receiver = Receiver(at(family.group, there), **options)
        self.receiver = self._stack.enter_context(receiver)

    def __enter__(self) -> Self:
        self._stack.enter_context(netlab.one_processor())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sender(self, group: str | None = None, **options: Any) -> Sender:
        """A sender to the receiver's group or another, closed in the end; each datagram by itself unless told."""
        with self.link.namespace:
            sender = Sender(group or self.group, engine=self.engine, **{"segment": False, **options})
        return self._stack.enter_context(sender)

    def plain_sender(self) -> socket.socket:
        """A socket that sends to the receiver's group, as other programs have it."""
        with self.link.namespace:
            sock = plain_socket(self.family.number)
            if self.family is V4:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, netlab.egress(self.link))
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self.link.index)
            sock.connect((self.family.group, PORT))
        return sock

    def datagrams(self) -> list[Datagram]:
        """What arrived of all that was sent before; the mark that another sender sets is delivered last."""
        with self.link.namespace, Sender(self.group) as marker:
            marker.send(END)
        received: list[Datagram] = []
        while END not in received:
            received += self.receiver.recv_batch(timeout=TIMEOUT)
        assert received.pop() == END
        return received

    def payloads(self) -> list[bytes]:
        """The payloads of datagrams()."""
        return [bytes(datagram) for datagram in self.datagrams()]

    def block(self) -> None:
        """Let one burst of 1500 bytes through, then 375 bytes a second: the least that the kernel can do."""
        self.throttle("3kbit", burst=1500)

    def unblock(self) -> None:
        """Let through what waits and what comes, nearly at once."""
        self.throttle("1gbit", burst=1_000_000)
        # What waits was put off as the old rate has it, seconds: the queue looks anew when something comes.
        with self.link.namespace, Sender(at(self.family.other, self.link)) as other:
            other.send(b"")

    def throttle(self, rate: str, *, burst: int = 2000, limit: int = 1_000_000) -> None:
        """Make the queue a token bucket, tc-tbf(8): up to `limit` bytes wait, what finds no room is dropped.

        Tests need "token_bucket".
        """
        netlab.throttle(self.link, rate, burst=burst, limit=limit)
