"""A receive thread delivers what came, whole and in order, whatever the family, the device and the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from backgroundlab import SIZE, families, payloads, send_slowly, take_all, wait_until_seen, ways
from receivelab import FAMILIES, Family, at, family_name, sources
from traffic import PATIENCE, feed, payload

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    import socket

    from netlab import Lan, Link

COUNT = 5000


@families
@ways
def test_all_that_was_sent_over_loopback_comes_in_order(family: socket.AddressFamily, way: dict[str, Any]) -> None:
    with feed(family, background=SIZE, **way) as busy:
        send_slowly(busy, range(COUNT))
        received = payloads(take_all(busy.receiver))
        assert received == [payload(number) for number in range(COUNT)]
        stats = busy.receiver.stats
        assert (stats.datagrams, stats.overrun, stats.kernel_drops) == (COUNT, 0, 0)
        assert stats.bytes == sum(map(len, received))


@pytest.mark.needs("namespaces", "ipv6")
@pytest.mark.parametrize("group_family", FAMILIES, ids=family_name)
@ways
def test_all_that_was_sent_across_a_wire_comes_in_order(lan: Lan, group_family: Family, way: dict[str, Any]) -> None:
    with lan.receiver.namespace:
        receiver = Receiver(at(group_family.group, lan.receiver), background=SIZE, **way)
    with receiver, sources(lan.sender) as (source,):
        for start in range(0, 3000, 100):
            source.send(group_family.group, *map(payload, range(start, start + 100)))
            wait_until_seen(receiver, start + 100)
        assert payloads(take_all(receiver)) == [payload(number) for number in range(3000)]


@ways
def test_trains_of_every_length_come_in_order(loopback: Link, way: dict[str, Any]) -> None:
    sent = []
    with (
        Receiver("239.1.2.3:5000", interface="lo", background=SIZE, batch_size=100, **way) as receiver,
        Sender("239.1.2.3:5000", interface="lo") as sender,
    ):
        for size in (1, 8, 100, 1400, 500, 2048):
            for length in (1, 2, 64, 127, 128, 200):
                train = [bytes([number % 251]) * size for number in range(length)] + [b"short"]
                sender.send_batch(train)
                sent += train
                wait_until_seen(receiver, len(sent))
        batches = list(take_all(receiver))
        assert payloads(batches) == sent
        assert max(map(len, batches)) == 100


@ways
def test_metadata_of_every_kind_comes_with_each_datagram(loopback: Link, way: dict[str, Any]) -> None:
    metadata = ("destination", "timestamp", "drops", "hops", "tos")
    with (
        Receiver("239.1.2.3:5000", interface="lo", background=SIZE, metadata=metadata, **way) as receiver,
        Sender("239.1.2.3:5000", interface="lo", ttl=7) as sender,
    ):
        for number in range(30):
            sender.send_batch([bytes([number])] * 10)
            wait_until_seen(receiver, 10 * number + 10)
        datagrams = [datagram for batch in take_all(receiver) for datagram in batch]
        assert len(datagrams) == 300
        assert {datagram.source for datagram in datagrams} == {sender.address}
        assert {datagram.destination for datagram in datagrams} == {("239.1.2.3", 5000)}
        assert {datagram.interface_index for datagram in datagrams} == {1}
        assert {(datagram.hops, datagram.tos) for datagram in datagrams} == {(7, 0)}
        times = [datagram.timestamp for datagram in datagrams]
        assert times == sorted(times)  # type: ignore[type-var]


@ways
def test_only_what_is_joined_is_delivered_while_joins_change(loopback: Link, way: dict[str, Any]) -> None:
    groups = [f"239.1.2.{number}" for number in range(1, 9)]
    with (
        Receiver(groups[0], port=5000, interface="lo", bind="any", background=SIZE, **way) as receiver,
        Receiver(*groups, port=5000, interface="lo", bind="any") as other,
        sources(loopback) as (source,),
    ):
        expected: list[bytes] = []
        joined = {groups[0]}
        for step in range(80):
            group = groups[step % 8]
            if group in joined and len(joined) > 1:
                receiver.leave(group)
                joined.discard(group)
            elif group not in joined:
                receiver.join(group)
                joined.add(group)
            # What nobody may see first: it was passed over when the rest has been seen.
            targets = sorted(groups, key=joined.__contains__)
            for target in targets:
                source.send(target, f"{target} {step}".encode())
            expected += [f"{target} {step}".encode() for target in targets if target in joined]
            wait_until_seen(receiver, len(expected))
            while sum(map(len, take_all(other))) == 0:
                pass
        assert payloads(take_all(receiver)) == expected


@ways
def test_blocked_sources_are_not_heard(loopback: Link, way: dict[str, Any]) -> None:
    with (
        Receiver("239.1.2.3:5000", interface="lo", background=SIZE, **way) as receiver,
        sources(loopback) as (source,),
    ):
        source.send("239.1.2.3", b"before")
        assert receiver.recv_batch(PATIENCE).payloads() == [b"before"]
        receiver.block("239.1.2.3", loopback.ipv4)
        source.send("239.1.2.3", b"blocked")
        receiver.unblock("239.1.2.3", loopback.ipv4)
        source.send("239.1.2.3", b"after")
        assert receiver.recv_batch(PATIENCE).payloads() == [b"after"]
