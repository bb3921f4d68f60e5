"""engine="packet" delivers exactly what its memberships say, sources included, from the moment a call returns."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
from netlab import wait_until
from packetlab import families, needs_packet, packet_receiver, send_train
from receivelab import END, TIMEOUT, V4, Family, Worker, at, exchange, is_joined, member, sources

if TYPE_CHECKING:
    import socket

    from netlab import Lan, Lan3
    from receivelab import Source

    from mcastfast import Receiver

pytestmark = needs_packet


def _drained(ring: Receiver, paths: int = 1) -> list[bytes]:
    """What the ring gives of an exchange by so many paths that it hears, without their ends."""
    received: list[bytes] = []
    while received.count(END) < paths:
        received += ring.recv_batch(TIMEOUT).payloads()
    with pytest.raises(BlockingIOError):
        ring.recv_batch(0)
    return [payload for payload in received if payload != END]


@families
def test_named_sources_alone(lan3: Lan3, family: Family) -> None:
    wanted, other = (family.address(link) for link in (lan3.first, lan3.second))
    with (
        member(lan3.receiver.namespace, (family.specific, lan3.receiver.index)) as observer,
        packet_receiver(family.specific, lan3.receiver, source=wanted) as ring,
        sources(lan3.first, lan3.second) as (first, second),
    ):
        exchange(observer, (first, family.specific, b"wanted"), (second, family.specific, b"foreign"))
        assert _drained(ring) == [b"wanted"]
        ring.join(family.specific, other)
        ring.leave(family.specific, wanted)
        exchange(observer, (first, family.specific, b"foreign"), (second, family.specific, b"wanted"))
        assert _drained(ring) == [b"wanted"]


@families
def test_all_but_blocked_sources(lan3: Lan3, family: Family) -> None:
    with (
        member(lan3.receiver.namespace, (family.group, lan3.receiver.index)) as observer,
        packet_receiver(family.group, lan3.receiver) as ring,
        sources(lan3.first, lan3.second) as (first, second),
    ):
        ring.block(family.group, family.address(lan3.first))
        exchange(observer, (first, family.group, b"blocked"), (second, family.group, b"wanted"))
        assert _drained(ring) == [b"wanted"]
        ring.unblock(family.group, family.address(lan3.first))
        exchange(observer, (first, family.group, b"again"), (second, family.group, b"wanted"))
        assert sorted(_drained(ring, 2)) == [b"again", b"wanted"]
        assert ring.stats.foreign == 0


@families
def test_what_is_in_the_ring_when_its_group_is_left_is_not_delivered(lan: Lan, family: Family) -> None:
    with (
        member(
            lan.receiver.namespace, (family.group, lan.receiver.index), (family.other, lan.receiver.index)
        ) as observer,
        packet_receiver(family.group, lan.receiver, bind="any") as ring,
        sources(lan.sender) as (source,),
    ):
        ring.join(at(family.other, lan.receiver))
        exchange(observer, (source, family.other, b"too late"), (source, family.group, b"wanted"))
        ring.leave(family.other)
        assert _drained(ring) == [b"wanted"]
        assert ring.stats.foreign == 2
        exchange(observer, (source, family.other, b"left"), (source, family.group, b"wanted"))
        assert _drained(ring) == [b"wanted"]
        assert ring.stats.foreign == 2


def _await_foreign(ring: Receiver, count: int) -> None:
    """Return when the ring has met so many that are not for it, of which the last may lie in a block of its own."""

    def look() -> bool:
        with contextlib.suppress(BlockingIOError):
            pytest.fail(f"{ring.recv_batch(0).payloads()} was for it")
        return ring.stats.foreign >= count

    wait_until(look, TIMEOUT)
    assert ring.stats.foreign == count


def _await_delivery(observer: socket.socket, source: Source, group: str) -> None:
    """Send one more to the group; when this returns, every socket of the observer's host has what was sent before."""
    source.send(group, b"the very last")
    while observer.recv(2048) != b"the very last":
        pass


@families
@pytest.mark.parametrize("change", ["leave", "block"])
@pytest.mark.parametrize("in_trains", [True, False], ids=["trains", "lone"])
def test_the_rest_of_a_block_that_is_half_delivered_is_not(
    lan: Lan, family: Family, change: str, in_trains: bool
) -> None:
    count = 96
    with (
        member(lan.receiver.namespace, (family.group, lan.receiver.index)) as observer,
        packet_receiver(family.group, lan.receiver, bind="any", batch_size=10) as ring,
        sources(lan.sender) as (source,),
    ):
        ring.join(at(family.other, lan.receiver))
        for _ in range(count // 32):  # more than one, of which the first is cut
            if in_trains:
                send_train(source, family.group, b"0123456789" * 32, 10)
            else:
                source.send(family.group, *[b"0123456789"] * 32)
        source.send(family.other, b"of the other", END)
        _await_delivery(observer, source, family.group)
        taken = len(ring.recv_batch(TIMEOUT))
        assert taken == 10 if in_trains else taken <= 10  # the kernel may have handed over a block with less
        if change == "leave":
            ring.leave(family.group)
        else:
            ring.block(family.group, family.address(lan.sender))
        assert _drained(ring) == [b"of the other"]
        _await_foreign(ring, count - taken + 1)
        assert ring.stats.datagrams == taken + 2


@families
def test_each_datagram_of_a_train_that_is_not_delivered_is_counted(lan: Lan, family: Family) -> None:
    with (
        member(lan.receiver.namespace, (family.other, lan.receiver.index)) as observer,
        packet_receiver(family.group, lan.receiver, bind="any") as ring,
        sources(lan.sender) as (source,),
    ):
        ring.join(at(family.other, lan.receiver))
        send_train(source, family.other, b"0123456789" * 20 + b"short", 10)
        source.send(family.group, END)
        _await_delivery(observer, source, family.other)
        ring.leave(family.other)
        assert _drained(ring) == []
        _await_foreign(ring, 21 + 1)


@families
def test_joins_and_leaves_under_traffic_lose_nothing_and_let_nothing_in(lan: Lan, family: Family) -> None:
    groups = [family.pattern % number for number in range(1, 9)]
    count = 200
    with (
        packet_receiver(family.group, lan.receiver, bind="any") as ring,
        sources(lan.sender) as (source,),
        member(lan.receiver.namespace, *((group, lan.receiver.index) for group in groups)),
    ):
        stopped = threading.Event()

        def send() -> None:
            for number in range(count):
                source.send(family.group, b"%d" % number)
                for group in groups:
                    source.send(group, b"group " + group.encode())
            stopped.set()

        sender = Worker(send)
        received: list[bytes] = []
        joined = set[str]()
        while not stopped.is_set() or b"%d" % (count - 1) not in received:
            for group in groups:
                (ring.leave if group in joined else ring.join)(group)
                joined ^= {group}
                with contextlib.suppress(TimeoutError):  # the sender may be done
                    received += ring.recv_batch(0.05).payloads()
        sender.result()
        numbers = [payload for payload in received if not payload.startswith(b"group")]
        assert numbers == [b"%d" % number for number in range(count)]
        for group in joined:
            ring.leave(group)
        source.send(groups[0], b"foreign")
        source.send(family.group, END)
        assert ring.recv_batch(TIMEOUT).payloads() == [END]
        assert ring.stats.kernel_drops == 0


def test_the_memberships_are_a_sockets(lan: Lan) -> None:
    ring = packet_receiver(V4.group, lan.receiver)
    with ring:
        assert is_joined(lan.receiver, V4.group)
    assert not is_joined(lan.receiver, V4.group)


def test_one_that_is_detached_brings_everything_again(lan: Lan) -> None:
    ring = packet_receiver(V4.group, lan.receiver)
    with ring.detach() as sock, sources(lan.sender) as (source,):
        sock.settimeout(TIMEOUT)
        source.send(V4.group, b"payload")
        assert sock.recv(100) == b"payload"
    assert ring.closed


@families
def test_a_ring_on_one_interface_hears_no_other(lan: Lan, family: Family) -> None:
    with (
        packet_receiver(family.group, lan.receiver) as ring,
        lan.receiver.namespace,
        pytest.raises(ValueError, match=r'bound to interface veth0 and never hears lo: open it with bind="any"'),
    ):
        ring.join(family.group, interface="lo")
    with packet_receiver(family.group, lan.receiver, bind="any") as ring, sources(lan.sender) as (source,):
        with lan.receiver.namespace:
            ring.join(family.other, interface="lo")
        source.send(family.other, b"not joined there")
        source.send(family.group, END)
        assert ring.recv_batch(TIMEOUT).payloads() == [END]
