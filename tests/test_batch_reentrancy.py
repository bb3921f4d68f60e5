"""Python code that runs inside a call (hooks, handlers, finalizers) may end a batch, and nobody meets freed memory."""

from __future__ import annotations

import functools
import gc
import signal
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from traffic import PATIENCE, Worker, feed, payload, wait_until_blocked

from mcastfast import Batch, Datagram, Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STALE = "released"


def _outcome(function: Callable[[], object]) -> object:
    """What it returns, or STALE when it found that the batch was released."""
    try:
        return function()
    except ValueError as error:
        if STALE in str(error):
            return STALE
        raise


class Ender:
    """Ends a batch whenever Python asks it for something."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __index__(self) -> int:
        self.batch.release()
        return 0

    def __float__(self) -> float:
        self.batch.release()
        return 1.0

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        self.batch.release()
        return np.dtype("u1")

    def __buffer__(self, flags: int) -> memoryview:
        self.batch.release()
        return memoryview(b"kept")


@pytest.mark.parametrize(
    "use",
    [
        lambda batch, datagram, ender: batch[ender],
        lambda batch, datagram, ender: datagram[ender],
        lambda batch, datagram, ender: datagram[ender:],
        lambda batch, datagram, ender: batch.records(ender),
        lambda batch, datagram, ender: batch.records("u1", offset=ender),
    ],
    ids=["batch index", "datagram index", "slice", "dtype", "offset"],
)
def test_argument_that_releases_the_batch_gets_an_error(use: Callable[[Batch, Datagram, Ender], object]) -> None:
    with feed() as quiet:
        batch = quiet.batch(b"kept", b"more")
        datagram = batch[0]
        for _ in range(10):
            quiet.batch(b"overwrites")
        assert _outcome(lambda: use(batch, datagram, Ender(batch))) in (STALE, b"kept")


def test_timeout_that_releases_the_batch_to_be_filled_gets_an_error() -> None:
    with feed() as quiet:
        batch = Batch(bytearray(4096))
        quiet.send(b"kept")
        assert _outcome(lambda: quiet.receiver.recv_batch_into(batch, Ender(batch))) == STALE  # type: ignore[arg-type]
        assert quiet.receiver.recv_batch(PATIENCE).payloads() == [b"kept"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ in Python is new in 3.12")
def test_comparison_that_releases_the_batch_gets_an_error() -> None:
    with feed() as quiet:
        batch = quiet.batch(b"kept")
        datagram = batch[0]
        with pytest.raises(ValueError, match=STALE):
            datagram == Ender(batch)  # noqa: B015


def test_timeout_that_releases_the_batch_stops_its_sending() -> None:
    with feed() as quiet:
        batch = quiet.batch(b"kept")
        with Sender.from_socket(quiet.sender.detach(), timeout=Ender(batch)) as strange:  # type: ignore[arg-type]
            assert _outcome(lambda: strange.send_batch(batch)) == STALE


def test_finalizer_that_ends_the_batch_during_a_collection_is_harmless() -> None:
    threshold = gc.get_threshold()
    with feed() as quiet:
        expected = [payload(number) for number in range(20)]
        for _ in range(50):
            batch = quiet.batch(*expected)

            class Cycle:
                def __init__(self, batch: Batch) -> None:
                    self.me = self
                    self.ender = batch

                def __del__(self) -> None:
                    self.ender.release()

            datagram = batch[3]
            Cycle(batch)
            gc.set_threshold(1)
            try:
                assert _outcome(batch.payloads) in (STALE, expected)
                assert _outcome(functools.partial(getattr, datagram, "source")) in (STALE, quiet.sender.address)
            finally:
                gc.set_threshold(*threshold)
            del Cycle, batch, datagram
            gc.collect()


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Sets what SIGUSR1 does in the main thread."""
    before = signal.getsignal(signal.SIGUSR1)

    def install(function: Callable[[], object]) -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: function())

    yield install
    signal.signal(signal.SIGUSR1, before)


def _signal_when_blocked(then: Callable[[], object] = lambda: None) -> Worker:
    main = threading.main_thread()

    def send() -> None:
        wait_until_blocked(main)
        assert main.ident is not None
        signal.pthread_kill(main.ident, signal.SIGUSR1)
        then()

    return Worker(send)


def test_batch_received_in_a_signal_handler_is_not_overwritten_by_the_interrupted_receive(
    engine: str, on_signal: Callable[[Callable[[], object]], None]
) -> None:
    with feed(engine=engine, batch_size=4, max_datagram=208) as quiet:
        taken: list[Batch] = []

        def take() -> None:
            for number in range(1, 10):
                quiet.send(payload(number))
                taken.append(quiet.receiver.recv_batch(PATIENCE))
            quiet.send(payload(10))

        on_signal(take)
        first = quiet.batch(payload(0))
        sender = _signal_when_blocked()
        last = quiet.receiver.recv_batch(PATIENCE)
        sender.result()
        assert [data for batch in (first, *taken, last) for data in batch.payloads()] == [payload(n) for n in range(11)]


def test_handler_may_receive_into_the_receiver_but_not_into_the_batch_that_is_being_filled(
    engine: str, on_signal: Callable[[Callable[[], object]], None]
) -> None:
    with feed(engine=engine) as quiet:
        batch = Batch(bytearray(4096), max_datagram=208)
        outcomes: list[object] = []

        def take() -> None:
            quiet.send(b"for the handler")
            try:
                quiet.receiver.recv_batch_into(batch, PATIENCE)
            except RuntimeError as error:
                outcomes.append(str(error))
            outcomes.append(quiet.receiver.recv_batch(PATIENCE).payloads())
            quiet.send(b"for the interrupted")

        on_signal(take)
        sender = _signal_when_blocked()
        assert quiet.receiver.recv_batch_into(batch, PATIENCE) == 1
        sender.result()
        assert batch.payloads() == [b"for the interrupted"]
        assert outcomes == ["recv_batch_into: another thread is filling this batch", [b"for the handler"]]


@pytest.mark.parametrize("way", ["batch", "into", "iteration"])
def test_handler_may_close_the_receiver_it_interrupted(
    engine: str, way: str, on_signal: Callable[[Callable[[], object]], None]
) -> None:
    with feed(engine=engine) as quiet:
        on_signal(quiet.receiver.close)
        sender = _signal_when_blocked()
        if way == "iteration":
            assert list(quiet.receiver) == []
        else:
            batch = Batch(bytearray(4096))
            with pytest.raises(OSError, match="closed") as error:
                quiet.receiver.recv_batch() if way == "batch" else quiet.receiver.recv_batch_into(batch)
            assert error.value.errno == 9
        sender.result()


def test_ctrl_c_during_recv_batch_into_leaves_the_batch_and_the_receiver_usable(
    engine: str, on_signal: Callable[[Callable[[], object]], None]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with feed(engine=engine) as quiet:
        batch = Batch(bytearray(4096), max_datagram=208)
        quiet.send(b"kept")
        quiet.receiver.recv_batch_into(batch, PATIENCE)
        datagram = batch[0]
        on_signal(interrupt)
        for _ in range(3):
            sender = _signal_when_blocked()
            with pytest.raises(KeyboardInterrupt):
                quiet.receiver.recv_batch_into(batch)
            sender.result()
            assert len(batch) == 0
            with pytest.raises(ValueError, match="refilled"):
                bytes(datagram)
        quiet.send(b"next")
        assert quiet.receiver.recv_batch_into(batch, PATIENCE) == 1
        assert batch.payloads() == [b"next"]


def test_receiver_made_twice_is_refused_and_keeps_working() -> None:
    with feed() as quiet:
        with pytest.raises(RuntimeError, match="called twice"):
            quiet.receiver.__init__("239.1.2.3:5000", interface="lo", metadata=["tos"], batch_size=1024)  # type: ignore[misc]
        with pytest.raises(RuntimeError, match="called twice"):
            quiet.sender.__init__("239.1.2.3:5000", interface="lo")  # type: ignore[misc]
        assert quiet.batch(b"still").payloads() == [b"still"]


def test_receiver_that_was_never_opened_is_closed() -> None:
    receiver = Receiver.__new__(Receiver)
    assert receiver.closed
    del receiver
    gc.collect()
