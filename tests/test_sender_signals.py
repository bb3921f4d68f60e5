"""Signals during a blocked send: their handler runs at once, and may raise, do nothing, or close the sender."""

from __future__ import annotations

import contextlib
import errno
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from netlab import is_blocked, wait_until
from receivelab import TIMEOUT, Worker
from sendlab import LARGE, Wire, sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mcastfast import Sender

pytestmark = pytest.mark.needs("namespaces", "ipv6", "token_bucket")

PAYLOADS = [bytes([number]) * LARGE for number in range(20)]


@pytest.fixture
def wire(wire: Wire) -> Wire:
    wire.block()
    return wire


@contextlib.contextmanager
def signalled_when_blocked(handler: Callable[[], None]) -> Iterator[None]:
    """When the body blocks in the kernel, a signal comes whose handler this is."""
    main = threading.main_thread()
    assert main.ident is not None
    identity = main.ident

    def send_signal() -> None:
        wait_until(is_blocked(main), TIMEOUT)
        signal.pthread_kill(identity, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: handler())
    try:
        sending = Worker(send_signal)
        yield
        sending.result()
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupt() -> None:
    raise KeyboardInterrupt


def send_each(sender: Sender, payloads: list[bytes]) -> None:
    for payload in payloads:
        sender.send(payload)


def send_all(sender: Sender, payloads: list[bytes]) -> None:
    assert sender.send_batch(payloads) == len(payloads)


WAYS = [send_each, send_all]


@pytest.mark.parametrize("send", WAYS)
def test_ctrl_c_ends_a_blocked_send(wire: Wire, send: Callable[[Sender, list[bytes]], None]) -> None:
    sender = wire.sender(send_buffer=1)
    with signalled_when_blocked(interrupt), pytest.raises(KeyboardInterrupt) as caught:
        send(sender, PAYLOADS)
    number = sender.stats.datagrams
    assert 0 < number < len(PAYLOADS)
    assert send is send_each or sent(caught.value) == number
    wire.unblock()
    sender.send(b"it goes on")
    assert wire.payloads() == [*PAYLOADS[:number], b"it goes on"]


@pytest.mark.parametrize("send", WAYS)
def test_a_signal_whose_handler_returns_changes_nothing(
    wire: Wire, send: Callable[[Sender, list[bytes]], None]
) -> None:
    sender = wire.sender(send_buffer=1)
    with signalled_when_blocked(wire.unblock):
        send(sender, PAYLOADS)
    assert wire.payloads() == PAYLOADS
    assert sender.stats.batches == (send is send_all)


def test_a_signal_does_not_prolong_the_timeout(wire: Wire) -> None:
    sender = wire.sender(send_buffer=1, timeout=0.1)
    calls = []
    with signalled_when_blocked(lambda: calls.append(sender.stats)), pytest.raises(TimeoutError) as caught:
        sender.send_batch(PAYLOADS)
    assert [stats.datagrams for stats in calls] == [sent(caught.value)]


@pytest.mark.parametrize("send", WAYS)
def test_a_handler_may_close_the_sender(wire: Wire, send: Callable[[Sender, list[bytes]], None]) -> None:
    sender = wire.sender(send_buffer=1)
    with signalled_when_blocked(sender.close), pytest.raises(OSError, match="it is closed") as caught:
        send(sender, PAYLOADS)
    assert caught.value.errno == errno.EBADF
    number = sender.stats.datagrams
    assert sent(caught.value) == (number if send is send_all else 0)
    wire.unblock()
    assert wire.payloads() == PAYLOADS[:number]


@pytest.mark.parametrize("form", [bytes, bytearray])
def test_a_handler_may_send_by_the_same_sender(wire: Wire, form: Callable[[bytes], bytes]) -> None:
    sender = wire.sender(send_buffer=1)
    others = [b"other %d" % number for number in range(30)]

    def send_others() -> None:
        wire.unblock()
        sender.send_batch(form(payload) for payload in others)

    with signalled_when_blocked(send_others):
        assert sender.send_batch([form(payload) for payload in PAYLOADS]) == len(PAYLOADS)
    received = wire.payloads()
    assert [payload for payload in received if payload in others] == others
    assert [payload for payload in received if payload not in others] == PAYLOADS
