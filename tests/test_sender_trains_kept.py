"""The option that cuts trains stays on the socket while nothing else leaves by it; who else sends finds it gone."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from receivelab import FAMILIES, at, family_name
from sendlab import ENOUGH, Wire, in_child

from mcastfast import Receiver, Sender, _core
from mcastfast.options import SEGMENT, get_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import netlab
    from receivelab import Family

pytestmark = pytest.mark.needs("namespaces", "ipv6")

SIZE = 100
TRAIN = [bytes([number]) * SIZE for number in range(8)]
LONG = b"long" * 250
"""A payload that the option would cut."""


@pytest.fixture(params=FAMILIES, ids=family_name)
def wire(request: pytest.FixtureRequest, lan: netlab.Lan) -> Iterator[Wire]:
    with Wire(lan, request.param, "socket") as wire:
        yield wire


def kept(sender: Sender) -> int:
    """What is set on the socket; to ask for the descriptor would change it."""
    return int(get_option(sender._socket, SEGMENT))


@pytest.fixture
def keeping(wire: Wire) -> Sender:
    """A sender that has set the option."""
    sender = wire.sender(segment=None)
    for _ in range(ENOUGH):
        sender.send_batch(TRAIN)
    assert wire.payloads() == TRAIN * ENOUGH
    assert kept(sender) == SIZE
    return sender


@pytest.mark.parametrize("size", [SIZE, 1000])
def test_rows_arrive_the_same(wire: Wire, size: int) -> None:
    rows = np.arange(5 * size, dtype=np.uint32).astype(np.uint8).reshape(5, size)
    sender = wire.sender(segment=True)
    for _ in range(ENOUGH):
        sender.send_batch(rows)
    assert kept(sender) == size
    sender.send_batch(rows, [size, size, 7, 0, size])
    sender.send_batch(rows)
    whole = [bytes(row) for row in rows]
    assert wire.payloads() == [*whole * ENOUGH, whole[0], whole[1], whole[2][:7], b"", whole[4], *whole]


@pytest.mark.parametrize("is_shared", [False, True], ids=["private", "shared"])
@pytest.mark.parametrize("height", [127, 256, 300, 385])
def test_rows_of_several_trains_arrive_the_same(wire: Wire, keeping: Sender, height: int, *, is_shared: bool) -> None:
    if is_shared:
        keeping.fileno()
    rows = np.arange(height * SIZE, dtype=np.uint32).astype(np.uint8).reshape(height, SIZE)
    rows[:, :2] = np.arange(height, dtype=">u2").view(np.uint8).reshape(height, 2)
    trains = keeping.stats.trains
    assert keeping.send_batch(rows) == height
    assert wire.payloads() == [bytes(row) for row in rows]
    assert keeping.stats.trains - trains == -(-height // 128)  # none is left alone
    assert kept(keeping) == (0 if is_shared else SIZE)


def test_trains_of_other_sizes_and_of_scattered_payloads_are_cut_to_their_own(wire: Wire, keeping: Sender) -> None:
    other = [bytes([number]) * 33 for number in range(6)]
    scattered = [bytes(bytearray([number]) * 1000) for number in range(3)]
    several = other + TRAIN + [b"short"] + scattered
    for payloads in (other, TRAIN, scattered, several, [*TRAIN, b"the last"]):
        keeping.send_batch(payloads)
        assert kept(keeping) == SIZE
        assert wire.payloads() == payloads
    for _ in range(ENOUGH):
        keeping.send_batch(other)
    assert kept(keeping) == 33
    assert wire.payloads() == other * ENOUGH


SENDS: dict[str, tuple[Callable[[Sender], object], list[bytes]]] = {
    "send": (lambda sender: sender.send(LONG), [LONG]),
    "send empty": (lambda sender: sender.send(b""), [b""]),
    "batch": (lambda sender: sender.send_batch([b"short", LONG]), [b"short", LONG]),
    "train and plain": (lambda sender: sender.send_batch([*TRAIN, LONG]), [*TRAIN, LONG]),
    "fragments": (lambda sender: sender.send_batch([LONG * 3] * 2), [LONG * 3] * 2),
}


@pytest.mark.parametrize("send", SENDS)
def test_what_goes_plain_goes_whole(wire: Wire, keeping: Sender, send: str) -> None:
    action, payloads = SENDS[send]
    action(keeping)
    assert kept(keeping) == 0
    assert wire.payloads() == payloads
    keeping.send_batch(TRAIN)
    assert kept(keeping) == 0, "it pays only for many in a row"
    assert wire.payloads() == TRAIN


def test_a_smaller_mtu_sends_plain(wire: Wire, keeping: Sender) -> None:
    large = [bytes([number]) * 1400 for number in range(3)]
    for _ in range(ENOUGH):
        keeping.send_batch(np.frombuffer(b"".join(large), "u1").reshape(3, 1400))
    assert kept(keeping) == 1400
    assert wire.payloads() == large * ENOUGH
    wire.link.namespace.ip.link("set", index=wire.link.index, mtu=1300)
    keeping.send_batch(large)
    assert wire.payloads() == large
    assert keeping.segment


def test_whoever_gets_the_descriptor_finds_the_socket_as_it_was(wire: Wire, keeping: Sender) -> None:
    with socket.socket(fileno=os.dup(keeping.fileno())) as other:
        for _ in range(ENOUGH):
            keeping.send_batch(TRAIN)
            other.send(LONG)
            assert kept(keeping) == 0
            assert wire.payloads() == [*TRAIN, LONG]


@pytest.mark.parametrize("end", [Sender.close, Sender.detach])
def test_what_is_left_of_the_socket_is_as_it_was(keeping: Sender, end: Callable[[Sender], object]) -> None:
    with keeping._socket.dup() as other:
        left = end(keeping)
        assert get_option(other, SEGMENT) == 0
        if isinstance(left, socket.socket):
            left.close()


def test_a_socket_that_somebody_else_may_have_is_left_alone(wire: Wire) -> None:
    with wire.sender(segment=None).detach() as sock, Sender.from_socket(sock.dup()) as sender:
        for _ in range(ENOUGH):
            sender.send_batch(TRAIN)
        assert kept(sender) == 0
    assert wire.payloads() == TRAIN * ENOUGH


def test_after_a_fork_both_send_what_they_mean(wire: Wire, keeping: Sender) -> None:
    def send() -> None:
        keeping.send(LONG)
        for _ in range(ENOUGH):
            keeping.send_batch(TRAIN)
        assert kept(keeping) == 0

    def child() -> None:
        assert kept(keeping) == 0
        send()

    in_child(child)
    send()
    assert wire.payloads() == [LONG, *TRAIN * ENOUGH] * 2


def test_a_sender_that_is_opened_while_a_fork_is_under_way_never_sets_it(wire: Wire) -> None:
    """Some other hook of a fork may open one, or let a thread do it: ours has passed already."""
    _core._before_fork()  # type: ignore[attr-defined]
    try:
        sender = wire.sender(segment=None)
    finally:
        _core._after_in_parent()  # type: ignore[attr-defined]
    for _ in range(ENOUGH):
        sender.send_batch(TRAIN)
    assert kept(sender) == 0
    later = wire.sender(segment=None)
    for _ in range(ENOUGH):
        later.send_batch(TRAIN)
    assert kept(later) == SIZE


def forked(sender: Sender) -> None:
    in_child(lambda: sender.send(LONG))


def duplicated(sender: Sender) -> None:
    with socket.socket(fileno=os.dup(sender.fileno())) as other:
        other.send(LONG)


@pytest.mark.parametrize("give", [forked, duplicated])
@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
def test_the_descriptor_is_given_away_in_the_middle_of_sends(
    loopback: netlab.Link, family: Family, give: Callable[[Sender], None]
) -> None:
    """Datagrams may be lost here, but none is cut: by the other they are long, ours are short."""
    group = at(family.group, loopback)
    lengths: Counter[int] = Counter()

    def hammer(sender: Sender, has_begun: threading.Event, is_over: threading.Event) -> None:
        for _ in range(ENOUGH):
            sender.send_batch(TRAIN)
        has_begun.set()
        while not is_over.is_set():
            sender.send_batch(TRAIN)

    def receive(receiver: Receiver) -> None:
        for batch in receiver:
            lengths.update(batch.lengths)

    with Receiver(group) as receiver:
        receiving = threading.Thread(target=receive, args=(receiver,))
        receiving.start()
        for number in range(1000):
            if number >= 30 and len(LONG) in lengths:
                break
            with Sender(group, segment=True) as sender:
                has_begun, is_over = threading.Event(), threading.Event()
                sending = threading.Thread(target=hammer, args=(sender, has_begun, is_over))
                sending.start()
                has_begun.wait()
                try:
                    give(sender)
                finally:
                    is_over.set()
                    sending.join()
    receiving.join()
    assert set(lengths) == {SIZE, len(LONG)}
