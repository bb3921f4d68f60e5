"""Once it has begun, a batch of any length goes out without the interpreter: other Python code cannot hold it up."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from netlab import scaled, wait_until
from receivelab import TIMEOUT, V4, Worker, at

from mcastfast import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

NUMBER = scaled(100_000)


@pytest.fixture
def never_switching() -> Iterator[None]:
    """Who has the GIL keeps it for as long as it runs Python code."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


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
