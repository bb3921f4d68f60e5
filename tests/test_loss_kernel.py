"""What the kernel drops is counted to the datagram and placed where it was lost."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from netlab import wait_until
from receivelab import (
    END,
    FAMILIES,
    PORT,
    TIMEOUT,
    Family,
    Source,
    at,
    drain,
    dropped_by_all,
    exchange,
    family_name,
    member,
    plain_socket,
    receive,
    sources,
)

from mcastfast import Receiver, ReceiverSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Lan, Link

pytestmark = [
    pytest.mark.needs("namespaces"),
    pytest.mark.needs("ipv6"),
    pytest.mark.parametrize("family", FAMILIES, ids=family_name),
]

SMALL = 16384
"""A receive buffer that a few dozen datagrams fill."""


@pytest.fixture
def source(lan: Lan) -> Iterator[Source]:
    with sources(lan.sender) as (opened,):
        yield opened


def numbered(first: int, count: int) -> list[bytes]:
    return [b"%06d" % number for number in range(first, first + count)]


def flood(receiver: Receiver, source: Source, group: str, payloads: list[bytes]) -> None:
    """Send more than the socket holds; when this returns the kernel has begun to drop."""
    before = receiver.stats.kernel_drops
    source.send(group, *payloads)
    wait_until(lambda: receiver.stats.kernel_drops > before, TIMEOUT, what="the socket to overflow")


def settled(receiver: Receiver, sent: int, received: int) -> bool:
    """Whether all that was sent is accounted for; never more than was sent."""
    drops = receiver.stats.kernel_drops
    assert received + drops <= sent
    return received + drops == sent


def test_received_and_dropped_make_up_what_was_sent(family: Family, engine: str, link: Link, source: Source) -> None:
    """Nothing is sent after the overflow: the tail that no later datagram reports is counted all the same."""
    sent = 2000
    with Receiver(at(family.group, link), receive_buffer=SMALL, engine=engine) as receiver:
        flood(receiver, source, family.group, numbered(0, sent))
        received = drain(receiver)
        wait_until(lambda: settled(receiver, sent, len(received)), TIMEOUT, what="the last datagram to arrive")
        assert 0 < len(received) < sent
        assert received == numbered(0, len(received))
        assert drain(receiver) == []
        assert receiver.stats.kernel_drops == sent - len(received)
        assert receiver.stats.datagrams == len(received)


def test_several_overflows_add_up(family: Family, engine: str, link: Link, source: Source) -> None:
    rounds, each = 5, 500
    received: list[bytes] = []
    with Receiver(at(family.group, link), receive_buffer=SMALL, engine=engine) as receiver:
        for number in range(rounds):
            flood(receiver, source, family.group, numbered(number * each, each))
            received += drain(receiver)
            sent = (number + 1) * each
            wait_until(lambda: settled(receiver, sent, len(received)), TIMEOUT)  # noqa: B023
        assert receiver.stats.kernel_drops == rounds * each - len(received)
        assert len(received) > rounds


def test_the_count_stays_after_close(family: Family, engine: str, link: Link, source: Source) -> None:
    with Receiver(at(family.group, link), receive_buffer=SMALL, engine=engine) as receiver:
        flood(receiver, source, family.group, numbered(0, 1000))
        received = drain(receiver)
        wait_until(lambda: settled(receiver, 1000, len(received)), TIMEOUT)
    assert receiver.closed
    assert receiver.stats.kernel_drops == 1000 - len(received)
    assert receiver.stats.kernel_drops == 1000 - len(received)


def test_drops_that_nobody_asked_for_before_close_are_in_the_last_count(
    family: Family, engine: str, link: Link, source: Source
) -> None:
    with Receiver(at(family.group, link), receive_buffer=SMALL, engine=engine) as receiver:
        source.send(family.group, *numbered(0, 1000))
        queued = drain(receiver)
        source.send(family.group, b"end")
        queued += receive(receiver, 1)
    assert receiver.stats.kernel_drops + len(queued) == 1001


def test_a_receiver_that_keeps_up_loses_nothing(family: Family, engine: str, link: Link, source: Source) -> None:
    with Receiver(at(family.group, link), metadata=["drops"], engine=engine) as receiver:
        for number in range(0, 1000, 20):
            source.send(family.group, *numbered(number, 20))
            assert receive(receiver, 20) == numbered(number, 20)
        assert receiver.stats.kernel_drops == 0


@pytest.mark.parametrize("mode", ["group", "any"])
def test_drops_stand_at_the_datagram_that_came_after_them(
    family: Family, engine: str, link: Link, source: Source, mode: str
) -> None:
    """The numbers in the payloads say what is missing before each; the column must say the same."""
    rounds, each = 4, 400
    with Receiver(
        at(family.group, link), bind=mode, metadata=["drops"], receive_buffer=SMALL, engine=engine
    ) as receiver:
        numbers: list[int] = []
        dropped: list[int] = []
        for number in range(rounds + 1):
            if number < rounds:
                flood(receiver, source, family.group, numbered(number * each, each))
                total = (number + 1) * each
            else:
                source.send(family.group, *numbered(rounds * each, 1))
                total = rounds * each + 1
            while not settled(receiver, total, len(numbers)):
                batch = receiver.recv_batch(TIMEOUT)
                numbers += [int(payload) for payload in batch.payloads()]
                dropped += batch.dropped
        missing = [after - before - 1 for before, after in zip([-1, *numbers], numbers, strict=False)]
        assert dropped == missing
        assert sum(1 for count in missing if count) >= rounds
        assert sum(dropped) == receiver.stats.kernel_drops


def test_drops_before_foreign_datagrams_stand_at_the_next_that_is_ours(
    family: Family, engine: str, link: Link, source: Source
) -> None:
    with Receiver(
        at(family.group, link),
        at(family.other, link),
        metadata=["drops"],
        receive_buffer=SMALL,
        engine=engine,
    ) as receiver:
        flood(receiver, source, family.group, numbered(0, 1000))
        received = len(drain(receiver))
        wait_until(lambda: settled(receiver, 1000, received), TIMEOUT)
        lost = receiver.stats.kernel_drops
        with member(link.namespace, (family.group, link.index), (family.other, link.index)) as observer:
            exchange(observer, *((source, group, group.encode()) for group in (family.other, family.group)))
        receiver.leave(family.other)
        batch = receiver.recv_batch(TIMEOUT)
        assert batch.payloads() == [family.group.encode(), END]
        assert list(batch.dropped) == [lost, 0]
        assert receiver.stats.foreign == 2


def test_drops_are_told_where_they_are_asked_for_alone(family: Family, engine: str, link: Link, source: Source) -> None:
    with Receiver(at(family.group, link), receive_buffer=SMALL, engine=engine) as receiver:
        flood(receiver, source, family.group, numbered(0, 1000))
        drain(receiver)
        source.send(family.group, b"after")
        batch = receiver.recv_batch(TIMEOUT)
        with pytest.raises(ValueError, match=r'^batch\.dropped was not asked for: .* metadata=\["drops"\]$'):
            list(batch.dropped)


def test_each_receiver_counts_its_own_drops(family: Family, engine: str, link: Link, source: Source) -> None:
    with (
        Receiver(at(family.group, link), receive_buffer=SMALL, engine=engine) as small,
        Receiver(at(family.group, link), receive_buffer=200_000, engine=engine) as large,
        ReceiverSet([small, large]),
    ):
        flood(small, source, family.group, numbered(0, 100))
        assert receive(large, 100) == numbered(0, 100)
        received = drain(small)
        assert settled(small, 100, len(received))
        assert large.stats.kernel_drops == 0


def test_drops_of_a_prepared_socket_count_from_the_takeover(
    family: Family, engine: str, link: Link, source: Source
) -> None:
    host = family.address(link)
    sock = plain_socket(family.number, port=PORT, host=host)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    source.send(host, *numbered(0, 500))
    wait_until(lambda: dropped_by_all(link, family) > 0, TIMEOUT)
    sock.setblocking(False)
    received = 0
    while received + dropped_by_all(link, family) < 500:
        with contextlib.suppress(BlockingIOError):
            received += bool(sock.recv(100))
    with Receiver.from_socket(sock, metadata=["drops"], engine=engine) as receiver:
        assert receiver.stats.kernel_drops == 0
        flood(receiver, source, host, numbered(500, 500))
        payloads = drain(receiver)
        wait_until(lambda: settled(receiver, 500, len(payloads)), TIMEOUT)
