"""recv_batch and recv_batch_into keep the socket module's rules for timeouts, on a receiver and on a set."""

from __future__ import annotations

import errno
import math
import time
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from receivelab import TIMEOUT, V4, Worker, at, sources

from mcastfast import Batch, Receiver, ReceiverSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Link

CALLS = ["recv_batch", "recv_batch_into", "set"]


class Call(Protocol):
    """A receive with a timeout."""

    def __call__(self, timeout: float | None = None) -> Any: ...


@pytest.fixture
def receiver(loopback: Link, engine: str) -> Iterator[Receiver]:
    with Receiver(at(V4.group, loopback), engine=engine) as opened:
        yield opened


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest, receiver: Receiver) -> Iterator[Call]:
    """One of the calls that take a timeout; it returns how many datagrams came."""
    if request.param == "set":
        with ReceiverSet([receiver]) as receivers:
            yield lambda timeout=None: len(receivers.recv_batch(timeout)[1])
        return
    batch = Batch(bytearray(64 * 2048))
    calls: dict[str, Call] = {
        "recv_batch": lambda timeout=None: len(receiver.recv_batch(timeout)),
        "recv_batch_into": lambda timeout=None: receiver.recv_batch_into(batch, timeout),
    }
    yield calls[request.param]


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, False])
def test_zero_returns_at_once(call: Call, timeout: float) -> None:
    with pytest.raises(BlockingIOError, match=r"recv_batch.* on .*: no datagram is there$") as raised:
        call(timeout)
    assert raised.value.errno == errno.EAGAIN


@pytest.mark.parametrize("timeout", [1e-12, 0.001, 0.05, 1])
def test_a_positive_timeout_is_waited_out_and_not_longer(call: Call, timeout: float) -> None:
    started = time.perf_counter()
    with pytest.raises(TimeoutError, match=r"recv_batch.* on .*: timed out$"):
        call(timeout)
    assert timeout <= time.perf_counter() - started < timeout + TIMEOUT / 2


@pytest.mark.parametrize("timeout", [0.005, 0.015, 0.025, 0.045])
def test_a_timeout_is_waited_out_also_while_datagrams_come_fast(call: Call, loopback: Link, timeout: float) -> None:
    """Then a receive waits inside its own call, for some milliseconds at a time."""
    with sources(loopback) as (source,):
        for _ in range(3):
            source.send(V4.group, b"busy")
            assert call(TIMEOUT) == 1
            started = time.perf_counter()
            with pytest.raises(TimeoutError):
                call(timeout)
            assert time.perf_counter() - started >= timeout


def test_a_timeout_is_an_error_of_the_socket_module(call: Call) -> None:
    with pytest.raises(OSError, match="timed out") as raised:
        call(0.001)
    assert isinstance(raised.value, TimeoutError)


@pytest.mark.parametrize("timeout", [-1, -1e-9, -math.inf, math.nan])
def test_negative_and_not_a_number_are_value_errors(call: Call, timeout: float) -> None:
    with pytest.raises(ValueError, match=rf"timeout={timeout!r} is not a positive number of seconds, 0 or None"):
        call(timeout)


@pytest.mark.parametrize("timeout", [1e300, math.inf, 9.3e9])
def test_a_timeout_beyond_the_clock_is_an_overflow_error(call: Call, timeout: float) -> None:
    with pytest.raises(OverflowError, match=r"timeout=.* is too large; None waits for ever"):
        call(timeout)


@pytest.mark.parametrize("timeout", ["1", b"1", [1], object()])
def test_what_is_no_number_is_a_type_error(call: Call, timeout: Any) -> None:
    with pytest.raises(TypeError, match=r"timeout=.* is not a number of seconds, 0 or None"):
        call(timeout)


def test_a_wrong_timeout_receives_nothing(receiver: Receiver, call: Call, loopback: Link) -> None:
    with sources(loopback) as (source,):
        source.send(V4.group, b"waiting")
    with pytest.raises(ValueError, match="timeout=-1"):
        call(-1)
    assert receiver.stats.datagrams == 0
    assert call(0) == 1


@pytest.mark.parametrize("timeout", [None, 100, 9e9])
def test_a_blocked_call_returns_when_something_comes(call: Call, loopback: Link, timeout: float | None) -> None:
    blocked = Worker(call, timeout)
    blocked.wait_until_blocked()
    with sources(loopback) as (source,):
        source.send(V4.group, b"at last")
    assert blocked.result() == 1


@pytest.mark.parametrize("timeout", [None, 0, 1e-12, 5])
def test_what_is_there_comes_whatever_the_timeout(call: Call, loopback: Link, timeout: float | None) -> None:
    with sources(loopback) as (source,):
        source.send(V4.group, b"1", b"2", b"3")
    assert call(timeout) == 3


def test_an_empty_datagram_is_one_too(call: Call, receiver: Receiver, loopback: Link) -> None:
    with sources(loopback) as (source,):
        source.send(V4.group, b"")
    assert call(TIMEOUT) == 1
    assert receiver.stats[:3] == (1, 1, 0)


def test_a_timeout_is_no_state_of_the_receiver(receiver: Receiver) -> None:
    """recv_batch(timeout) says nothing about the next call, nor about the socket."""
    with pytest.raises(TimeoutError):
        receiver.recv_batch(0.001)
    with pytest.raises(BlockingIOError):
        receiver.recv_batch(0)
    with receiver.detach() as sock:
        assert sock.gettimeout() is None
