"""Payloads of one small size in a list: the sender copies them at once, so that nothing of the list is needed later."""

from __future__ import annotations

import select
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from netlab import is_blocked, wait_until
from receivelab import TIMEOUT, Worker, receive
from sendlab import ENOUGH, Wire, alike

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.needs("namespaces", "ipv6")

LENGTH = 200
"""So many payloads are more trains than the least send buffer holds."""


class Doubled(list[bytes]):
    """Its items are not what iteration over it gives."""

    def __iter__(self) -> Iterator[bytes]:
        for payload in super().__iter__():
            yield payload * 2


@pytest.mark.parametrize(
    "payloads",
    [
        alike(2, 1024),
        alike(2, 1025),
        alike(900, 72),
        alike(900, 73),
        alike(902, 5),
        [*alike(100, 5), b"last"],
        [*alike(100, 5), bytearray(100), *alike(100, 5)],
        [*alike(100, 5), b"", *alike(100, 5)],
        [b""] * 4,
        tuple(alike(100, 5)),
    ],
    ids=[
        "as many as one call takes",
        "one more",
        "as much as one train takes",
        "one more than that",
        "too large to copy",
        "the last shorter",
        "one no bytes",
        "one empty",
        "all empty",
        "tuple",
    ],
)
@pytest.mark.parametrize("segment", [None, False])
@pytest.mark.needs("token_bucket")
def test_they_arrive_as_they_are(wire: Wire, payloads: Any, segment: bool | None) -> None:
    sender = wire.sender(segment=segment, send_buffer=1)
    wire.throttle("10mbit")  # so that the receiver keeps up
    received = Worker(receive, wire.receiver, len(payloads))
    assert sender.send_batch(payloads) == len(payloads)
    assert sorted(received.result()) == sorted(payloads)  # neighbours may swap places on such a wire
    assert sender.stats[:3] == (1, len(payloads), sum(map(len, payloads)))


def test_a_list_is_what_iteration_gives(wire: Wire) -> None:
    sender = wire.sender(segment=None)
    sender.send_batch(Doubled(alike(100, 5)))
    assert wire.payloads() == alike(200, 5)


@pytest.mark.needs("token_bucket")
def test_a_list_may_change_while_they_wait(wire: Wire) -> None:
    wire.block()
    sender = wire.sender(segment=None, send_buffer=1)
    payloads = alike(200, LENGTH)
    sending = Worker(sender.send_batch, payloads)
    sending.wait_until_blocked()
    payloads[:] = [b"changed"] * 50
    wire.unblock()
    assert sending.result() == LENGTH
    assert sorted(wire.payloads()) == alike(200, LENGTH)


@pytest.mark.parametrize("trains_before", [0, ENOUGH], ids=["new", "kept"])
@pytest.mark.needs("token_bucket")
def test_a_signal_handler_may_send_others_while_they_wait(wire: Wire, trains_before: int) -> None:
    sender = wire.sender(segment=None, send_buffer=1)
    for _ in range(trains_before):
        sender.send_batch(alike(200, 8))
    wire.payloads()
    wire.block()
    main = threading.main_thread()
    assert main.ident is not None
    identity = main.ident
    payloads, others = alike(200, LENGTH), [payload[::-1] + b"!" for payload in alike(200, LENGTH)]

    def send_others(number: int, frame: object) -> None:
        payloads.clear()
        wire.throttle("10mbit")
        sender.send_batch(others)
        select.select([], [sender._socket], [], TIMEOUT)  # the rest finds room at once

    def send_signal() -> None:
        wait_until(is_blocked(main), TIMEOUT)
        signal.pthread_kill(identity, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, send_others)
    try:
        received = Worker(receive, wire.receiver, 2 * LENGTH)
        signalling = Worker(send_signal)
        assert sender.send_batch(payloads) == LENGTH
        signalling.result()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sorted(received.result()) == sorted(others + alike(200, LENGTH))
