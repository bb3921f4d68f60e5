"""A Sender's life: opened or taken over, closed or given back, leaked, forked; its counts outlive it."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest
from netlab import wait_until
from receivelab import FAMILIES, TIMEOUT, Family, Worker, at, family_name, plain_socket
from sendlab import LARGE, Wire, in_child, sent

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")


def descriptors() -> set[str]:
    with os.scandir("/proc/self/fd") as entries:
        return {entry.name for entry in entries}


CALLS: list[Callable[[Sender], object]] = [
    lambda sender: sender.send(b"x"),
    lambda sender: sender.send_batch([b"x"]),
    lambda sender: sender.send_batch([bytearray(b"x")]),
    lambda sender: sender.send_batch([]),
    lambda sender: sender.send_batch(memoryview(b"xy").cast("B", (1, 2))),
]


@pytest.mark.parametrize("call", CALLS, ids=["send", "bytes", "buffers", "nothing", "rows"])
def test_a_closed_sender_refuses_to_send(wire: Wire, call: Callable[[Sender], object]) -> None:
    sender = wire.sender()
    sender.close()
    with pytest.raises(OSError, match=rf"(send|send_batch) on {sender}: it is closed") as caught:
        call(sender)
    assert (caught.value.errno, sent(caught.value)) == (errno.EBADF, 0)


def test_close_gives_back_every_descriptor(wire: Wire) -> None:
    before = descriptors()
    sender = wire.sender()
    sender.send(b"payload")
    assert descriptors() > before
    sender.close()
    assert descriptors() == before
    sender.close()
    assert sender.closed
    assert sender.fileno() == -1
    assert repr(sender) == f"<Sender {sender} (closed)>"


@pytest.mark.parametrize("rate", [None, 10_000_000], ids=["unpaced", "behind its pace"])
def test_close_ends_a_long_batch(wire: Wire, rate: float | None) -> None:
    """Though the socket has room all the time, and nothing waits."""
    rows = memoryview(bytes(4_000_000)).cast("B", (4_000_000, 1))
    sender = wire.sender(rate=rate)
    batch = Worker(sender.send_batch, rows)
    wait_until(lambda: sender.stats.datagrams > 0, TIMEOUT)
    sender.close()
    with pytest.raises(OSError, match="it is closed") as caught:
        batch.result()
    assert caught.value.errno == errno.EBADF
    assert 0 < sent(caught.value) < 4_000_000


class Interrupted(Sender):
    """One whose making does not end."""

    def _open(self, fd: int, segment: bool | None, *, is_ours: bool) -> None:
        super()._open(fd, segment, is_ours=is_ours)
        assert not self.closed
        raise KeyboardInterrupt


def test_a_sender_whose_making_was_interrupted_is_closed(wire: Wire) -> None:
    before = descriptors()
    with wire.link.namespace, pytest.raises(KeyboardInterrupt):
        Interrupted(wire.group)
    assert descriptors() == before


def test_one_whose_making_was_interrupted_leaves_the_socket_to_its_owner(
    namespace: netlab.Namespace, engine: str
) -> None:
    with namespace, plain_socket(socket.AF_INET, port=0) as target, plain_socket(socket.AF_INET) as sock:
        sock.connect(("127.0.0.1", target.getsockname()[1]))
        with pytest.raises(KeyboardInterrupt):
            Interrupted.from_socket(sock, engine=engine)
        sock.send(b"it goes on")
        assert target.recv(100) == b"it goes on"


def test_counts_and_names_outlive_the_socket(wire: Wire) -> None:
    with wire.sender() as sender:
        sender.send_batch([b"one", b"two"])
        address, interface = sender.address, sender.interface
    assert sender.stats == (1, 2, 6, 0, 0, 0)
    assert (sender.address, sender.interface) == (address, interface)
    assert sender.destination[:2] == (wire.family.group, 5000)
    assert wire.payloads() == [b"one", b"two"]


def test_a_sender_is_selectable_for_writing(wire: Wire) -> None:
    sender = wire.sender()
    assert select.select([], [sender], [], TIMEOUT) == ([], [sender], [])


def test_a_forgotten_sender_warns_and_closes(wire: Wire) -> None:
    before = descriptors()
    with wire.link.namespace, pytest.warns(ResourceWarning, match=r"unclosed <Sender .* port 5000>") as caught:
        Sender(wire.group, engine=wire.engine)
    assert len(caught) == 1
    assert descriptors() == before


def test_a_connected_socket_is_taken_over_and_given_back(lan: netlab.Lan, engine: str) -> None:
    for family in FAMILIES:
        with lan.receiver.namespace, plain_socket(family.number, port=0) as target:
            with lan.sender.namespace:
                sock = plain_socket(family.number)
            sock.connect((family.address(lan.receiver), target.getsockname()[1]))
            sender = Sender.from_socket(sock, engine=engine)
            assert sender.fileno() == sock.fileno()
            assert sender.interface is None
            assert sender.destination == sock.getpeername()
            sender.send(b"one")
            assert sender.send_batch([b"two", b"three"]) == 2
            assert sender.detach() is sock
            assert sender.closed
            sock.send(b"four")
            sock.close()
            assert [target.recv(100) for _ in range(4)] == [b"one", b"two", b"three", b"four"]


def test_close_closes_a_socket_that_was_taken_over(namespace: netlab.Namespace, engine: str) -> None:
    with namespace:
        sock = plain_socket(socket.AF_INET)
    sock.connect(("127.0.0.1", 9))
    Sender.from_socket(sock, engine=engine).close()
    assert sock.fileno() == -1


@pytest.mark.needs("token_bucket")
@pytest.mark.parametrize("seconds", [None, 0, 0.001])
def test_the_timeout_of_a_socket_is_neither_heeded_nor_changed(wire: Wire, seconds: float | None) -> None:
    wire.throttle("2mbit", burst=1500)  # 6 ms each
    sock = wire.sender(send_buffer=1).detach()
    sock.settimeout(seconds)
    with Sender.from_socket(sock, engine=wire.engine, timeout=TIMEOUT) as sender:
        assert sender.send_batch([bytes(LARGE)] * 12) == 12
        assert sender.detach().gettimeout() == seconds
    with Sender.from_socket(sock, engine=wire.engine, timeout=0) as sender, pytest.raises(BlockingIOError):
        sender.send_batch([bytes(LARGE)] * 12)


def test_detach_of_a_closed_sender_is_an_error(wire: Wire) -> None:
    sender = wire.sender()
    sender.detach().close()
    with pytest.raises(OSError, match=rf"detach of {sender}: it is closed") as caught:
        sender.detach()
    assert caught.value.errno == errno.EBADF


def test_parent_and_child_send_after_a_fork(wire: Wire) -> None:
    sender = wire.sender()
    sender.send(b"before")

    def child() -> None:
        sender.send(b"child")
        assert sender.send_batch([b"child"] * 2) == 2
        assert sender.stats.datagrams == 4
        sender.close()

    in_child(child)
    assert sender.send_batch([b"parent"]) == 1
    assert sender.stats.datagrams == 2
    assert wire.payloads() == [b"before", b"child", b"child", b"child", b"parent"]


@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_a_sender_may_be_subclassed(loopback: netlab.Link, family: Family) -> None:
    class Counting(Sender):
        """One that knows more than its base."""

        def send(self, payload: bytes) -> None:  # type: ignore[override]
            super().send(b"> " + payload)

    group = at(family.group, loopback)
    with Receiver(group) as receiver, Counting(group) as sender:
        sender.send(b"payload")
        assert receiver.recv_batch(timeout=TIMEOUT).payloads() == [b"> payload"]
