"""Signals during a blocked receive: handlers run at once, may raise or close, and Ctrl-C ends a program."""

from __future__ import annotations

import collections
import ctypes
import errno
import itertools
import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from netlab import is_asleep, wait_until
from receivelab import TIMEOUT, V4, at, handler, script, sources

from mcastfast import Batch, Receiver, ReceiverSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from netlab import Link


class InterruptionError(Exception):
    """What the tests' handlers raise."""


def interrupt() -> None:
    raise InterruptionError


@pytest.fixture
def receiver(loopback: Link, engine: str) -> Iterator[Receiver]:
    with Receiver(at(V4.group, loopback), engine=engine) as opened:
        yield opened


@pytest.fixture
def receivers(receiver: Receiver) -> Iterator[ReceiverSet]:
    with ReceiverSet([receiver]) as opened:
        yield opened


@pytest.fixture(params=["recv_batch", "recv_batch_into", "iteration", "datagrams", "set", "iteration of a set"])
def call(request: pytest.FixtureRequest, receiver: Receiver, receivers: ReceiverSet) -> Callable[[], Any]:
    """A receive that waits for ever; it returns what came first."""
    batch = Batch(bytearray(2048))

    def fill() -> bytes:
        receiver.recv_batch_into(batch)
        return bytes(batch[0])

    return {
        "recv_batch": lambda: bytes(receiver.recv_batch()[0]),
        "recv_batch_into": fill,
        "iteration": lambda: next(bytes(batch[0]) for batch in receiver),
        "datagrams": lambda: bytes(next(receiver.datagrams())),
        "set": lambda: bytes(receivers.recv_batch()[1][0]),
        "iteration of a set": lambda: next(bytes(batch[0]) for _, batch in receivers),
    }[request.param]


def test_a_handler_that_raises_leaves_the_receiver_usable(call: Callable[[], Any], loopback: Link) -> None:
    with handler(interrupt), pytest.raises(InterruptionError):
        call()
    with sources(loopback) as (source,):
        source.send(V4.group, b"payload")
        assert call() == b"payload"


def test_a_signal_that_interrupts_nothing_is_handled_during_the_wait(call: Callable[[], Any]) -> None:
    """As one that comes when the interpreter has looked for the last time, and the wait has not begun."""
    with handler(interrupt, interrupts=False), pytest.raises(InterruptionError):
        call()


def test_a_handler_may_send_what_the_receive_waits_for(call: Callable[[], Any], loopback: Link) -> None:
    with sources(loopback) as (source,), handler(lambda: source.send(V4.group, b"from the handler")):
        assert call() == b"from the handler"


def test_a_handler_may_join_and_leave(receiver: Receiver, loopback: Link) -> None:
    with Receiver(at(V4.group, loopback), bind="any") as other, sources(loopback) as (source,):

        def change() -> None:
            other.leave(V4.group)
            other.join(at(V4.other, loopback))
            source.send(V4.other, b"joined by the handler")

        with handler(change):
            assert other.recv_batch(TIMEOUT).payloads() == [b"joined by the handler"]


def test_a_handler_may_receive_by_itself(receiver: Receiver, loopback: Link) -> None:
    seen: list[bytes] = []
    with sources(loopback) as (source,):

        def take_one() -> None:
            source.send(V4.group, b"for the handler", b"for the call")
            receiver.recv_batch_into(batch, TIMEOUT)
            seen.extend(batch.payloads())

        batch = Batch(bytearray(100), max_datagram=100)
        with handler(take_one):
            assert receiver.recv_batch(TIMEOUT).payloads() == [b"for the call"]
    assert seen == [b"for the handler"]


def test_a_handler_may_receive_on_the_set_that_it_interrupts(loopback: Link) -> None:
    seen: list[bytes] = []
    with ReceiverSet([Receiver(at(V4.group, loopback), batch_size=1)]) as receivers, sources(loopback) as (source,):

        def take_one() -> None:
            source.send(V4.group, b"for the handler", b"for the call")
            seen.extend(receivers.recv_batch(TIMEOUT)[1].payloads())

        with handler(take_one):
            assert receivers.recv_batch(TIMEOUT)[1].payloads() == [b"for the call"]
    assert seen == [b"for the handler"]


@pytest.mark.parametrize("grouped", [False, True], ids=["receiver", "set"])
@pytest.mark.parametrize("closes", [False, True], ids=["raises", "closes"])
def test_a_loop_in_c_has_handlers_run_before_each_batch(
    engine: str, loopback: Link, grouped: bool, closes: bool
) -> None:
    raise_signal = getattr(ctypes.CDLL(None), "raise")  # signal.raise_signal would run the handler by itself
    with Receiver(at(V4.group, loopback), engine=engine, batch_size=1) as receiver, sources(loopback) as (source,):
        source.send(V4.group, b"first", b"second", b"third")
        feed: Iterable[object] = ReceiverSet([receiver]) if grouped else receiver
        batches = zip(feed, map(raise_signal, itertools.repeat(signal.SIGUSR1)), strict=False)
        with handler(receiver.close if closes else interrupt, when=lambda: False), ExitStack() as stack:
            if not closes:
                stack.enter_context(pytest.raises(InterruptionError))
            collections.deque(batches, 0)
        assert receiver.stats.batches == 1


@pytest.mark.parametrize("name", ["recv_batch", "recv_batch_into", "set"])
def test_a_handler_that_returns_does_not_start_the_wait_again(
    receiver: Receiver, receivers: ReceiverSet, name: str
) -> None:
    """PEP 475: the deadline stays, although signals come faster than it."""
    calls: list[int] = []
    batch = Batch(bytearray(2048))
    stopped = threading.Event()

    def pester() -> None:
        while not stopped.wait(0.02):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    receive: dict[str, Callable[[float], object]] = {
        "recv_batch": receiver.recv_batch,
        "recv_batch_into": lambda timeout: receiver.recv_batch_into(batch, timeout),
        "set": receivers.recv_batch,
    }
    with handler(lambda: calls.append(1), when=pester), ExitStack() as stack:
        stack.callback(stopped.set)
        with pytest.raises(TimeoutError):
            receive[name](0.2)
    assert len(calls) >= 2


def consume(receiver: Receiver) -> list[bytes]:
    return [payload for batch in receiver for payload in batch.payloads()]


def consume_datagrams(receiver: Receiver) -> list[bytes]:
    return [bytes(datagram) for datagram in receiver.datagrams()]


def consume_set(receiver: Receiver) -> list[bytes]:
    with ReceiverSet([receiver]) as receivers:
        return [payload for _, batch in receivers for payload in batch.payloads()]


@pytest.mark.parametrize("reader", [consume, consume_datagrams, consume_set])
def test_an_iteration_ends_when_a_handler_closes_the_receiver(
    receiver: Receiver, loopback: Link, reader: Callable[[Receiver], list[bytes]]
) -> None:
    """What a service does on SIGTERM."""
    with sources(loopback) as (source,):
        source.send(V4.group, b"before")
    with handler(receiver.close):
        assert reader(receiver) == [b"before"]
    assert receiver.closed


def test_an_iteration_of_a_set_ends_when_a_handler_closes_the_set(receiver: Receiver, receivers: ReceiverSet) -> None:
    with handler(receivers.close):
        assert list(receivers) == []
    assert receivers.closed
    assert receiver.closed


@pytest.mark.parametrize("call", ["recv_batch", "recv_batch_into", "set"], indirect=True)
@pytest.mark.parametrize("which", ["receiver", "set"])
def test_a_receive_fails_when_a_handler_closes(
    call: Callable[[], Any], which: str, receiver: Receiver, receivers: ReceiverSet
) -> None:
    close = receiver.close if which == "receiver" else receivers.close
    with handler(close), pytest.raises(OSError, match="it is closed") as raised:
        call()
    assert raised.value.errno == errno.EBADF


PROGRAM = """
import sys
from mcastfast import Batch, Receiver, ReceiverSet

def recv_batch(receiver):
    receiver.recv_batch()

def timed_recv_batch(receiver):
    receiver.recv_batch(timeout=1000)

def recv_batch_into(receiver):
    receiver.recv_batch_into(Batch(bytearray(2048)))

def iteration(receiver):
    for batch in receiver:
        pass

def datagrams(receiver):
    for datagram in receiver.datagrams():
        pass

def receiver_set(receiver):
    ReceiverSet([receiver]).recv_batch()

def iteration_of_a_set(receiver):
    for _ in ReceiverSet([receiver]):
        pass

with Receiver("239.1.2.3%lo:5000", engine=sys.argv[2]) as receiver:
    print("ready")
    try:
        globals()[sys.argv[1]](receiver)
    except KeyboardInterrupt:
        print("interrupted")
        raise
"""


@pytest.mark.parametrize(
    "name",
    [
        "recv_batch",
        "timed_recv_batch",
        "recv_batch_into",
        "iteration",
        "datagrams",
        "receiver_set",
        "iteration_of_a_set",
    ],
)
def test_ctrl_c_ends_a_program_that_waits(engine: str, loopback: Link, name: str) -> None:
    with script(PROGRAM, name, engine, namespace=loopback.namespace) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: is_asleep(f"/proc/{process.pid}"), TIMEOUT, what="the program to wait")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=TIMEOUT)
    assert output == "interrupted\n"
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert "ResourceWarning" not in errors
    assert process.returncode == -signal.SIGINT
