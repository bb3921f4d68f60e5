"""A sender that waits for its turn can be closed and interrupted, and its timeout is for a full buffer alone."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from netlab import wait_until
from receivelab import TIMEOUT, V4, Worker, handler
from sendlab import LARGE, Wire, sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

SLOW = 0.01
"""Datagrams each second: the second has to wait longer than any test."""
BUSY = 20_000
"""Datagrams each second between which nobody sleeps; of which MANY take longer than any test."""
MANY = np.zeros((BUSY * 100, 1), "u1")


@pytest.fixture
def wire(lan: netlab.Lan, engine: str) -> Iterator[Wire]:
    with Wire(lan, V4, engine) as wire:
        yield wire


def test_close_ends_the_wait(wire: Wire) -> None:
    sender = wire.sender(rate=SLOW)
    sender.send(b"first")
    sending = Worker(sender.send, b"second")
    sending.wait_until_blocked()
    sender.close()
    with pytest.raises(OSError, match="it is closed") as caught:
        sending.result()
    assert caught.value.errno == errno.EBADF
    assert wire.payloads() == [b"first"]


def test_close_ends_the_wait_in_a_batch_and_says_how_many_went(wire: Wire) -> None:
    sender = wire.sender(rate=SLOW, burst=3)
    sending = Worker(sender.send_batch, [b"x"] * 5)
    sending.wait_until_blocked()
    sender.close()
    with pytest.raises(OSError, match="it is closed") as caught:
        sending.result()
    assert sent(caught.value) == 3
    assert wire.payloads() == [b"x"] * 3


def test_close_ends_a_sender_that_does_not_sleep(wire: Wire) -> None:
    sender = wire.sender(rate=BUSY)
    sending = Worker(sender.send_batch, MANY)
    wait_until(lambda: sender.stats.datagrams, TIMEOUT)
    sender.close()
    with pytest.raises(OSError, match="it is closed") as caught:
        sending.result()
    assert sent(caught.value) == sender.stats.datagrams < len(MANY)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_the_wait(wire: Wire) -> None:
    sender = wire.sender(rate=SLOW)
    sender.send(b"first")
    with handler(interrupt), pytest.raises(KeyboardInterrupt):
        sender.send(b"second")
    with handler(interrupt), pytest.raises(KeyboardInterrupt):
        sender.send_batch([b"second"])
    assert wire.payloads() == [b"first"]


@pytest.mark.parametrize(
    ("rate", "burst"), [(BUSY, 1), (10**9, 1), (10**9, 1024)], ids=["in time", "behind", "behind in bursts"]
)
def test_ctrl_c_ends_a_sender_that_does_not_sleep(wire: Wire, rate: int, burst: int) -> None:
    sender = wire.sender(rate=rate, burst=burst)
    with handler(interrupt, lambda: sender.stats.datagrams), pytest.raises(KeyboardInterrupt) as caught:
        sender.send_batch(MANY)
    assert 0 < sent(caught.value) == sender.stats.datagrams < len(MANY)


def test_a_signal_whose_handler_returns_changes_nothing(wire: Wire) -> None:
    payloads = [bytes([number]) for number in range(8)]
    sender = wire.sender(rate=20)
    calls: list[int] = []
    with handler(lambda: calls.append(sender.stats.datagrams)):
        assert sender.send_batch(payloads) == 8
    assert len(calls) == 1
    assert wire.payloads() == payloads


def test_a_handler_may_close_the_sender(wire: Wire) -> None:
    sender = wire.sender(rate=SLOW)
    with handler(sender.close), pytest.raises(OSError, match="it is closed") as caught:
        sender.send_batch([b"first", b"second"])
    assert sent(caught.value) == 1


@pytest.mark.parametrize("timeout", [0, 0.001, None])
def test_waiting_for_its_turn_is_no_reason_to_time_out(wire: Wire, timeout: float | None) -> None:
    sender = wire.sender(rate=100, timeout=timeout)
    sender.send(b"0")
    assert sender.send_batch([b"1", b"2"]) == 2
    sender.send(b"3")
    assert wire.payloads() == [b"0", b"1", b"2", b"3"]


@pytest.mark.needs("token_bucket")
@pytest.mark.parametrize(("timeout", "kind"), [(0, BlockingIOError), (0.001, TimeoutError)])
def test_a_full_buffer_still_is_one(wire: Wire, timeout: float, kind: type[OSError]) -> None:
    wire.block()
    sender = wire.sender(rate=1000, timeout=timeout, send_buffer=1)
    with pytest.raises(kind) as caught:
        sender.send_batch([bytes(LARGE)] * 30)
    assert 0 < sent(caught.value) == sender.stats.datagrams < 30


def test_another_thread_is_refused_meanwhile(wire: Wire) -> None:
    sender = wire.sender(rate=SLOW)
    sender.send(b"first")
    sending: Worker[Any] = Worker(sender.send, b"second")
    sending.wait_until_blocked()
    with pytest.raises(RuntimeError, match=r"send on .* another thread is in a call that excludes this one"):
        sender.send(b"third")
    with pytest.raises(RuntimeError, match=r"delay on .* another thread is in a call that excludes this one"):
        _ = sender.delay
    assert sender.stats.datagrams == 1
    sender.close()
    with pytest.raises(OSError, match="it is closed"):
        sending.result()
    with pytest.raises(OSError, match=r"delay on .*: it is closed"):
        _ = sender.delay
