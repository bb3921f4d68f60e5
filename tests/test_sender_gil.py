"""Other Python code does not hold up a send: a long batch goes out without the interpreter, a short one in one go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from netlab import scaled, wait_until
from receivelab import TIMEOUT, V4, Worker, at, calls_before_another_thread, needs_gil

from mcastfast import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

NUMBER = scaled(100_000)
ROWS = np.zeros((64, 100), "u1")


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
    "send",
    [
        lambda sender: sender.send(b"payload"),
        lambda sender: sender.send_batch([b"payload"] * 64),
        lambda sender: sender.send_batch(ROWS),
    ],
    ids=["send", "list", "rows"],
)
def test_a_datagram_or_train_keeps_the_gil(loopback: netlab.Link, send: Callable[[Sender], object]) -> None:
    with Sender(at(V4.group, loopback), segment=True, send_buffer=1 << 20) as sender:
        # The first finds out what the way takes.
        assert calls_before_another_thread(lambda: send(sender), 1000) == 1000
