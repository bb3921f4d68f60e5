"""A full send buffer: sends wait for it, go on where they stopped, and say exactly how far they came."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Any

import pytest
from receivelab import Worker
from sendlab import LARGE, Wire, as_rows, sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcastfast import Sender

pytestmark = pytest.mark.needs("namespaces", "ipv6", "token_bucket")

PAYLOADS = [bytes([number]) * LARGE for number in range(20)]


@pytest.fixture
def wire(wire: Wire) -> Wire:
    wire.block()
    return wire


def fill(sender: Sender) -> int:
    """Send until the buffer is full; how many payloads that took. The sender's timeout is 0."""
    with pytest.raises(BlockingIOError) as caught:
        sender.send_batch(PAYLOADS)
    return sent(caught.value)


FORMS: list[Callable[[list[bytes]], Any]] = [
    list,
    lambda payloads: [bytearray(payload) for payload in payloads],
    as_rows,
]
FORM_NAMES = ["bytes", "bytearrays", "rows"]


@pytest.mark.parametrize("form", FORMS, ids=FORM_NAMES)
def test_a_batch_waits_for_room_and_goes_on_where_it_stopped(wire: Wire, form: Callable[[list[bytes]], Any]) -> None:
    sender = wire.sender(send_buffer=1)
    sending = Worker(sender.send_batch, form(PAYLOADS))
    sending.wait_until_blocked()
    assert 0 < sender.stats.datagrams < len(PAYLOADS)
    wire.unblock()
    assert sending.result() == len(PAYLOADS)
    assert wire.payloads() == PAYLOADS
    assert sender.stats[:3] == (1, len(PAYLOADS), len(PAYLOADS) * LARGE)


@pytest.mark.parametrize("form", FORMS, ids=FORM_NAMES)
@pytest.mark.parametrize(
    ("timeout", "kind", "text"),
    [
        (0, BlockingIOError, "send_batch on {}: the send buffer is full"),
        (0.03, TimeoutError, "send_batch on {}: timed out"),
    ],
    ids=["zero", "short"],
)
def test_what_was_sent_before_the_timeout_arrives_and_the_rest_does_not(
    wire: Wire, timeout: float, kind: type[OSError], text: str, form: Callable[[list[bytes]], Any]
) -> None:
    sender = wire.sender(send_buffer=1, timeout=timeout)
    start = time.perf_counter()
    with pytest.raises(kind) as caught:
        sender.send_batch(form(PAYLOADS))
    assert time.perf_counter() - start >= timeout
    assert text.format(sender) in str(caught.value)
    number = sent(caught.value)
    assert 0 < number < len(PAYLOADS)
    assert sender.stats.datagrams == number
    wire.unblock()
    assert wire.payloads() == PAYLOADS[:number]


def test_what_is_left_can_be_sent_later(wire: Wire) -> None:
    sender = wire.sender(send_buffer=1, timeout=0)
    number = fill(sender)
    with pytest.raises(BlockingIOError) as caught:
        sender.send_batch(PAYLOADS[number:])
    assert sent(caught.value) == 0
    wire.unblock()
    while number < len(PAYLOADS):
        try:
            number += sender.send_batch(PAYLOADS[number:])
        except BlockingIOError as error:
            number += sent(error)
    assert wire.payloads() == PAYLOADS


def test_a_lone_send_waits_for_room(wire: Wire) -> None:
    full = wire.sender(send_buffer=1, timeout=0)
    number = fill(full)
    with pytest.raises(BlockingIOError, match=r"send on .*: the send buffer is full") as caught:
        full.send(b"never")
    assert (caught.value.errno, sent(caught.value)) == (errno.EAGAIN, 0)
    sender = wire.sender(send_buffer=1)
    fillers = 0

    def send_until_it_blocks() -> None:
        nonlocal fillers
        while fillers < len(PAYLOADS):
            sender.send(PAYLOADS[fillers])
            fillers += 1

    sending = Worker(send_until_it_blocks)
    sending.wait_until_blocked()
    assert 0 < fillers < len(PAYLOADS)
    wire.unblock()
    sending.result()
    assert wire.payloads() == PAYLOADS[:number] + PAYLOADS


def test_a_lone_send_times_out(wire: Wire) -> None:
    sender = wire.sender(send_buffer=1, timeout=0.02)
    with pytest.raises(TimeoutError):
        sender.send_batch(PAYLOADS)
    start = time.perf_counter()
    with pytest.raises(TimeoutError, match=r"send on .*: timed out") as caught:
        sender.send(b"never")
    assert time.perf_counter() - start >= 0.02
    assert sent(caught.value) == 0


def test_the_timeout_is_that_of_the_whole_call(wire: Wire) -> None:
    """Each datagram that goes must not start it again."""
    wire.throttle("1mbit", burst=1500)  # 12 ms each
    sender = wire.sender(send_buffer=1, timeout=0.1)
    with pytest.raises(TimeoutError) as caught:
        sender.send_batch(PAYLOADS * 50)
    assert 2 < sent(caught.value) < 100
