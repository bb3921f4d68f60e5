"""Threads on one Sender: one sends at a time, the others may look at its stats and close it."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest
from receivelab import Worker
from sendlab import LARGE, Wire, sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcastfast import Sender

pytestmark = pytest.mark.needs("namespaces", "ipv6", "token_bucket")

PAYLOADS = [bytes([number]) * LARGE for number in range(20)]


@pytest.fixture
def wire(wire: Wire) -> Wire:
    wire.block()
    return wire


def send_each(sender: Sender) -> None:
    for payload in PAYLOADS:
        sender.send(payload)


def send_all(sender: Sender) -> None:
    sender.send_batch(PAYLOADS)


@pytest.mark.parametrize("send", [send_each, send_all])
def test_a_second_thread_is_told_so_and_does_no_harm(wire: Wire, send: Callable[[Sender], None]) -> None:
    sender = wire.sender(send_buffer=1)
    sending = Worker(send, sender)
    sending.wait_until_blocked()
    text = f"on {sender}: another thread is in a call that excludes this one"
    with pytest.raises(RuntimeError, match=f"send {text}"):
        sender.send(b"no")
    with pytest.raises(RuntimeError, match=f"send_batch {text}"):
        sender.send_batch([b"no"])
    wire.unblock()
    sending.result()
    assert wire.payloads() == PAYLOADS


@pytest.mark.parametrize("send", [send_each, send_all])
def test_close_ends_a_blocked_send(wire: Wire, send: Callable[[Sender], None]) -> None:
    sender = wire.sender(send_buffer=1)
    sending = Worker(send, sender)
    sending.wait_until_blocked()
    assert 0 < sender.stats.datagrams < len(PAYLOADS)
    sender.close()
    with pytest.raises(OSError, match=r"send(_batch)? on .*: it is closed") as caught:
        sending.result()
    number = sender.stats.datagrams
    assert (caught.value.errno, sent(caught.value)) == (errno.EBADF, number if send is send_all else 0)
    wire.unblock()
    assert wire.payloads() == PAYLOADS[:number]


def test_detach_ends_a_blocked_send_and_the_socket_lives(wire: Wire) -> None:
    sender = wire.sender(send_buffer=1)
    sending = Worker(send_all, sender)
    sending.wait_until_blocked()
    with sender.detach() as sock:
        with pytest.raises(OSError, match="it is closed") as caught:
            sending.result()
        wire.unblock()
        sock.send(b"by the socket")
    assert wire.payloads() == [*PAYLOADS[: sent(caught.value)], b"by the socket"]


def test_no_descriptor_that_others_open_is_written_to_after_close(wire: Wire) -> None:
    """Threads that open descriptors get the numbers that close() freed; a send must never reach them."""
    stop = threading.Event()

    def open_and_close() -> int:
        rounds = 0
        while not stop.is_set():
            ends = os.pipe()
            os.set_blocking(ends[0], False)
            with pytest.raises(BlockingIOError):
                os.read(ends[0], 1)
            for end in ends:
                os.close(end)
            rounds += 1
        return rounds

    opener = Worker(open_and_close)
    for _ in range(10):
        sender = wire.sender(send_buffer=1)
        sending = Worker(send_all, sender)
        sending.wait_until_blocked()
        sender.close()
        with pytest.raises(OSError, match="it is closed"):
            sending.result()
    stop.set()
    assert opener.result() > 0


def test_stats_may_be_read_all_the_time(wire: Wire) -> None:
    wire.unblock()
    sender = wire.sender()
    stop = threading.Event()

    def watch() -> None:
        last = 0
        while not stop.is_set():
            now = sender.stats.datagrams
            assert now >= last
            last = now

    watching = Worker(watch)
    for _ in range(200):
        sender.send_batch([b"payload"] * 10)
    stop.set()
    watching.result()
    assert sender.stats[:3] == (200, 2000, 14000)


def test_many_threads_that_send_by_turns_lose_nothing(wire: Wire) -> None:
    wire.unblock()
    sender = wire.sender()
    turn = threading.Lock()

    def work(name: bytes) -> None:
        for number in range(10):
            with turn:
                sender.send(b"%s %d" % (name, number))

    workers = [Worker(work, name) for name in (b"a", b"b", b"c")]
    for worker in workers:
        worker.result()
    received = wire.payloads()
    for name in (b"a", b"b", b"c"):
        assert [each for each in received if each.startswith(name)] == [b"%s %d" % (name, n) for n in range(10)]
    assert len(received) == 30
