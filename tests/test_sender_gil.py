"""Other Python code does not hold up a send: a long batch goes out without the interpreter, a short one in one go."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from netlab import scaled, wait_until
from receivelab import TIMEOUT, V4, Worker, at, calls_before_another_thread, first_seen_from_another_thread, needs_gil
from sendlab import LARGE, Wire

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

NUMBER = scaled(100_000)


@pytest.mark.usefixtures("never_switching")
@pytest.mark.parametrize(
    "make",
    [lambda: [b"x"] * NUMBER, lambda: [bytearray(b"x")] * NUMBER, lambda: np.zeros((NUMBER, 1), "u1")],
    ids=["bytes", "bytearrays", "rows"],
)
def test_a_long_batch_needs_no_gil(loopback: netlab.Link, engine: str, make: Callable[[], Any]) -> None:
    with Sender(at(V4.group, loopback), segment=False, engine=engine) as sender:
        sending = Worker(sender.send_batch, make())
        wait_until(lambda: sender.stats.datagrams, TIMEOUT)
        end = time.monotonic() + TIMEOUT
        while sender.stats.datagrams < NUMBER and time.monotonic() < end:
            pass
        assert sender.stats.datagrams == NUMBER
        assert sending.result() == NUMBER


@needs_gil
@pytest.mark.usefixtures("never_switching")
@pytest.mark.parametrize(
    "payloads",
    [
        [b"payload"] * 64,
        [bytes(1400)] * 40,
        [bytearray(b"payload")] * 64,
        [b"payload"] * 63 + [b"last"],
        [b"alone"],
        np.zeros((64, 100), "u1"),
        np.zeros((512, 100), "u1"),
        [bytes(100)] * 512,
    ],
    ids=["list", "long payloads", "bytearrays", "a shorter last one", "one", "rows", "four trains", "a list of four"],
)
def test_a_train_or_a_few_keep_the_gil(loopback: netlab.Link, payloads: Any) -> None:
    with Sender(at(V4.group, loopback), segment=True, send_buffer=1 << 20) as sender:
        # The first finds out what the way takes. After 65,536 units, by datagrams and bytes, one lets go all the same.
        calls = 1000 if len(payloads) <= 64 and len(payloads[0]) <= 100 else 200
        assert calls_before_another_thread(lambda: sender.send_batch(payloads), calls) == calls


@needs_gil
@pytest.mark.usefixtures("never_switching")
@pytest.mark.parametrize("lengths", [[100] * 64, [90] * 63 + [1]], ids=["whole", "a shorter last one"])
def test_a_train_of_the_beginnings_of_rows_keeps_the_gil(loopback: netlab.Link, lengths: list[int]) -> None:
    rows = np.zeros((64, 100), "u1")
    with Sender(at(V4.group, loopback), segment=True, send_buffer=1 << 20) as sender:
        assert calls_before_another_thread(lambda: sender.send_batch(rows, lengths), 1000) == 1000


@needs_gil
@pytest.mark.usefixtures("never_switching")
@pytest.mark.parametrize("size", [0, 100, 3000])
@pytest.mark.parametrize("form", [lambda row: [row.tobytes()], lambda row: row], ids=["list", "row"])
def test_a_lone_payload_keeps_the_gil_whatever_its_size(
    loopback: netlab.Link, form: Callable[[Any], Any], size: int
) -> None:
    payloads = form(np.zeros((1, size), "u1"))
    with Sender(at(V4.group, loopback), segment=False) as sender:
        assert calls_before_another_thread(lambda: sender.send_batch(payloads), 1000) == 1000


@needs_gil
@pytest.mark.needs("token_bucket")
@pytest.mark.usefixtures("never_switching")
@pytest.mark.parametrize("form", [bytes, lambda payload: [payload]], ids=["send", "send_batch"])
def test_a_full_buffer_that_nobody_waits_for_keeps_the_gil(lan: netlab.Lan, form: Callable[[bytes], Any]) -> None:
    with Wire(lan, V4, "socket") as wire:
        wire.block()
        sender = wire.sender(send_buffer=1, timeout=0)
        payload = form(bytes(LARGE))
        send: Callable[[Any], Any] = sender.send_batch if isinstance(payload, list) else sender.send

        def fill() -> None:
            with contextlib.suppress(BlockingIOError):
                send(payload)

        for _ in range(20):
            fill()
        assert calls_before_another_thread(fill, 300) == 300


@needs_gil
@pytest.mark.usefixtures("never_switching")
def test_a_train_of_received_datagrams_keeps_the_gil(loopback: netlab.Link) -> None:
    group = at(V4.group, loopback)
    with Receiver(group) as receiver, Sender(group, segment=True, send_buffer=1 << 20) as sender:
        sender.send_batch([b"payload"] * 32)
        batch = receiver.recv_batch(TIMEOUT)
        assert calls_before_another_thread(lambda: sender.send_batch(batch), 1000) == 1000


@needs_gil
@pytest.mark.usefixtures("never_switching")
def test_a_datagram_keeps_the_gil(loopback: netlab.Link) -> None:
    with Sender(at(V4.group, loopback)) as sender:
        assert calls_before_another_thread(lambda: sender.send(b"payload"), 1000) == 1000


def lets_go_of_the_gil(loopback: netlab.Link, payloads: Any) -> bool:
    """Whether a call lets another thread run, which on a busy machine may have no processor at that moment.

    Each time with another sender, and so few calls that none of them lets go since there were so many.
    """

    def lets_go() -> bool:
        with Sender(at(V4.group, loopback), segment=True, send_buffer=4 << 20) as sender:
            return calls_before_another_thread(lambda: sender.send_batch(payloads), 200) < 200

    return any(lets_go() for _ in range(5))


@needs_gil
@pytest.mark.usefixtures("never_switching")
def test_a_train_it_is_not_with_payloads_of_different_sizes(loopback: netlab.Link) -> None:
    """They are a system call each."""
    assert lets_go_of_the_gil(loopback, [b"payload", b"longer payload"] * 32)


@needs_gil
@pytest.mark.usefixtures("never_switching")
@pytest.mark.parametrize("shape", [(513, 100), (512, 520)], ids=["datagrams", "bytes"])
def test_a_train_more_than_four_lets_go_of_the_gil(loopback: netlab.Link, shape: tuple[int, int]) -> None:
    assert lets_go_of_the_gil(loopback, np.zeros(shape, "u1"))


@needs_gil
@pytest.mark.parametrize(
    ("payloads", "count"),
    [(b"payload", 200_000), ([bytes(500)] * 128, 10_000)],
    ids=["datagrams", "trains, which do more in a call"],
)
def test_a_loop_in_c_lets_others_run(loopback: netlab.Link, payloads: Any, count: int) -> None:
    with Sender(at(V4.group, loopback), send_buffer=1 << 20) as sender:
        send: Callable[[Any], Any] = sender.send if isinstance(payloads, bytes) else sender.send_batch
        loop = functools.partial(collections.deque[Any], map(send, itertools.repeat(payloads, count)), 0)
        seen = first_seen_from_another_thread(loop, lambda: sender.stats.datagrams)
    assert 0 < seen < (count if isinstance(payloads, bytes) else count * len(payloads))
