"""Rows, in an array or as a list of equal payloads, go a shorter way once a sender knows its path."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from netlab import wait_until
from receivelab import FAMILIES, V4, V6, Worker, at, family_name, plain_socket, receive
from sendlab import ENOUGH, Wire, alike, as_rows, sent

from mcastfast import Receiver, Sender
from mcastfast.options import RECEIVE_ERRORS, set_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6")

SIZE = 100


@pytest.fixture(params=FAMILIES, ids=family_name)
def wire(request: pytest.FixtureRequest, lan: netlab.Lan) -> Iterator[Wire]:
    with Wire(lan, request.param, "socket") as wire:
        yield wire


def know(sender: Sender, rows: Any) -> None:
    """The first send of a sender looks its path up."""
    sender.send_batch(rows)


def keep(sender: Sender, rows: Any) -> None:
    """The option of trains is set."""
    for _ in range(ENOUGH):
        sender.send_batch(rows)


def share(sender: Sender, rows: Any) -> None:
    """Somebody else may have the descriptor."""
    sender.send_batch(rows)
    sender.fileno()


STATES: dict[str, Callable[[Sender, Any], None]] = {"private": know, "kept": keep, "shared": share}
states = pytest.mark.parametrize("prepare", STATES.values(), ids=STATES)


forms = pytest.mark.parametrize("form", [as_rows, list], ids=["rows", "bytes"])


@states
@forms
def test_each_arrives_once_and_is_counted(
    wire: Wire, prepare: Callable[[Sender, Any], None], form: Callable[[list[bytes]], Any]
) -> None:
    sender = wire.sender(segment=None)
    prepare(sender, form(alike(SIZE, 8)))
    wire.payloads()
    payloads = alike(SIZE, 130)
    before = sender.stats
    assert sender.send_batch(form(payloads)) == 130
    assert wire.payloads() == payloads
    counted = [now - then for now, then in zip(sender.stats, before, strict=True)]
    assert counted == [1, 130, 130 * SIZE, 0, 0, 2]


@states
@forms
@pytest.mark.needs("token_bucket")
def test_those_that_find_no_room_go_later(
    wire: Wire, prepare: Callable[[Sender, Any], None], form: Callable[[list[bytes]], Any]
) -> None:
    sender = wire.sender(segment=None, send_buffer=1)
    prepare(sender, form(alike(SIZE, 8)))
    wire.payloads()
    wire.block()
    payloads = alike(SIZE, 400)
    received = Worker(receive, wire.receiver, 400)
    sending = Worker(sender.send_batch, form(payloads))
    sending.wait_until_blocked()
    wire.throttle("10mbit")  # so that the receiver keeps up
    assert sending.result() == 400
    assert sorted(received.result()) == payloads  # neighbours may swap places on such a wire


@states
@forms
@pytest.mark.needs("token_bucket")
def test_those_that_find_no_room_at_once_are_told(
    wire: Wire, prepare: Callable[[Sender, Any], None], form: Callable[[list[bytes]], Any]
) -> None:
    sender = wire.sender(segment=None, send_buffer=1, timeout=0)
    prepare(sender, form(alike(SIZE, 8)))
    wire.payloads()
    wire.block()
    payloads = alike(SIZE, 400)
    with pytest.raises(BlockingIOError) as caught:
        sender.send_batch(form(payloads))
    number = sent(caught.value)
    assert 0 < number < 400
    wire.unblock()
    assert sorted(wire.payloads()) == payloads[:number]


@states
@forms
@pytest.mark.needs("token_bucket")
def test_what_the_queue_drops_is_not_sent_again(
    wire: Wire, prepare: Callable[[Sender, Any], None], form: Callable[[list[bytes]], Any]
) -> None:
    """A member on this host gets it before the queue drops it."""
    payloads = alike(SIZE, 6)
    sender = wire.sender(segment=None, loopback=True)
    prepare(sender, form(alike(SIZE, 8)))
    wire.throttle("3kbit", burst=1500, limit=1500)
    other = wire.sender(at(wire.family.other, wire.link))
    with pytest.raises(OSError, match="queue of the device is full"):
        other.send_batch([bytes(1400)] * 10)
    with wire.link.namespace, Receiver(wire.group) as member:
        for number in (1, 2):
            with pytest.raises(OSError, match="queue of the device is full") as caught:
                sender.send_batch(form(payloads))
            assert (caught.value.errno, sent(caught.value)) == (errno.ENOBUFS, 0)
            assert receive(member, len(payloads)) == payloads
            with pytest.raises(BlockingIOError):
                member.recv_batch(timeout=0)
            assert sender.stats.send_drops == number * len(payloads)


@pytest.mark.parametrize("queue", [False, True], ids=["no queue", "queue"])
@forms
def test_late_errors_are_counted(loopback: netlab.Link, form: Callable[[list[bytes]], Any], *, queue: bool) -> None:
    """Each send but the first finds the answer to the one before; the queue has no room for more than a few."""
    with loopback.namespace:
        with plain_socket(V4.number, port=0) as closed:
            port = closed.getsockname()[1]
        sock = plain_socket(V4.number)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    sock.connect((V4.address(loopback), port))
    set_option(sock, RECEIVE_ERRORS, queue)
    payloads = alike(SIZE, 8)
    with Sender.from_socket(sock, segment=None) as sender:
        for number in range(1, ENOUGH + 1):
            assert sender.send_batch(form(payloads)) == len(payloads)
            wait_for_answers(loopback, number)
        assert sender.stats.late_errors == (ENOUGH if queue else ENOUGH - 1)


def wait_for_answers(link: netlab.Link, count: int) -> None:
    wait_until(lambda: link.namespace.counter("Icmp", "InDestUnreachs") == count, what=f"{count} answers")


@pytest.mark.parametrize("size", [32_755, 65_520])
def test_rows_of_which_a_train_has_one_go_plain(loopback: netlab.Link, size: int) -> None:
    loopback.namespace.ip.link("set", index=loopback.index, mtu=70_000)
    rows = np.arange(2 * size, dtype="u4").astype("u1").reshape(2, size)
    group = at(V6.group, loopback)
    with Receiver(group, max_datagram=65_535, receive_buffer=212_992) as receiver, Sender(group) as sender:
        for _ in range(ENOUGH):
            assert sender.send_batch(rows) == 2
            assert receive(receiver, 2) == [bytes(row) for row in rows]
        assert sender.stats.trains == 0
