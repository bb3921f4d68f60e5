"""With two sources on one network a receiver hears those that it joined and did not block; the kernel agrees."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from receivelab import FAMILIES, TIMEOUT, Family, Source, at, drain, exchange, family_name, is_joined, member, sources

from mcastfast import FilterMode, Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Lan3, Link

pytestmark = [
    pytest.mark.needs("namespaces"),
    pytest.mark.needs("ipv6"),
    pytest.mark.parametrize("family", FAMILIES, ids=family_name),
]


@pytest.fixture
def pair(lan3: Lan3) -> Iterator[list[Source]]:
    """A sender behind each of the two sources; the test runs in the receiver's namespace."""
    with sources(lan3.first, lan3.second) as opened, lan3.receiver.namespace:
        yield opened


def filters(link: Link, group: str) -> dict[str, tuple[int, int]]:
    """The kernel's source filter of a group: how many sockets include, and how many exclude, each source."""
    v6 = ":" in group
    family = socket.AF_INET6 if v6 else socket.AF_INET
    text = link.namespace.proc("mcfilter6" if v6 else "mcfilter")
    found = {}
    for line in text.splitlines()[1:]:
        index, _, address, source, included, excluded = line.split()
        if int(index) == link.index and bytes.fromhex(address.removeprefix("0x")) == socket.inet_pton(family, group):
            host = socket.inet_ntop(family, bytes.fromhex(source.removeprefix("0x")))
            found[host] = int(included), int(excluded)
    return found


def heard(receiver: Receiver, link: Link, pair: list[Source], group: str) -> set[bytes]:
    """Which of the two sources the receiver hears, all of it or nothing, while another socket hears both."""
    named = list(zip((b"first", b"second"), pair, strict=True))
    payloads = {name: [b"%s %d" % (name, number) for number in range(3)] for name, _ in named}
    with member(link.namespace, (group, link.index)) as observer:
        exchange(observer, *((source, group, payload) for name, source in named for payload in payloads[name]))
        received = drain(receiver)
    names = {payload.split()[0] for payload in received}
    assert sorted(received) == sorted(payload for name in names for payload in payloads[name])
    return names


def test_an_ssm_receiver_gets_exactly_one_of_two_sources(
    family: Family, engine: str, lan3: Lan3, pair: list[Source]
) -> None:
    wanted = family.address(lan3.first)
    with Receiver(at(family.specific, lan3.receiver), source=wanted, engine=engine) as receiver:
        assert is_joined(lan3.receiver, family.specific)
        assert filters(lan3.receiver, family.specific) == {wanted: (1, 0)}
        assert heard(receiver, lan3.receiver, pair, family.specific) == {b"first"}
        assert receiver.stats.foreign == 0


def test_a_source_that_sends_is_told_by_its_address_and_port(
    family: Family, engine: str, lan3: Lan3, pair: list[Source]
) -> None:
    first, _ = pair
    with Receiver(at(family.specific, lan3.receiver), source=family.address(lan3.first), engine=engine) as receiver:
        first.send(family.specific, b"payload")
        (datagram,) = receiver.recv_batch(timeout=TIMEOUT)
        assert datagram.source[:2] == (family.address(lan3.first), first.port(family))


def test_block_stops_one_source_and_unblock_restores_it(
    family: Family, engine: str, lan3: Lan3, pair: list[Source]
) -> None:
    blocked = family.address(lan3.second)
    with Receiver(at(family.group, lan3.receiver), engine=engine) as receiver:
        assert heard(receiver, lan3.receiver, pair, family.group) == {b"first", b"second"}
        assert is_joined(lan3.receiver, family.group)
        assert filters(lan3.receiver, family.group) == {}

        receiver.block(family.group, blocked)
        assert filters(lan3.receiver, family.group) == {blocked: (0, 1)}
        assert heard(receiver, lan3.receiver, pair, family.group) == {b"first"}

        receiver.unblock(family.group, blocked)
        assert filters(lan3.receiver, family.group) == {}
        assert heard(receiver, lan3.receiver, pair, family.group) == {b"first", b"second"}


def test_sources_are_joined_and_left_one_by_one(family: Family, engine: str, lan3: Lan3, pair: list[Source]) -> None:
    first, second = family.address(lan3.first), family.address(lan3.second)
    with Receiver(at(family.specific, lan3.receiver), source=first, engine=engine) as receiver:
        receiver.join(family.specific, second)
        assert filters(lan3.receiver, family.specific) == {first: (1, 0), second: (1, 0)}
        assert heard(receiver, lan3.receiver, pair, family.specific) == {b"first", b"second"}

        receiver.leave(family.specific, first)
        assert filters(lan3.receiver, family.specific) == {second: (1, 0)}
        assert heard(receiver, lan3.receiver, pair, family.specific) == {b"second"}

        receiver.leave(family.specific, second)
        assert receiver.memberships == ()
        assert not is_joined(lan3.receiver, family.specific)
        assert heard(receiver, lan3.receiver, pair, family.specific) == set()


def test_several_groups_of_both_modes_share_one_socket(
    family: Family, engine: str, lan3: Lan3, pair: list[Source]
) -> None:
    first, second = family.address(lan3.first), family.address(lan3.second)
    with Receiver(
        at(family.group, lan3.receiver), f"{first}@{at(family.specific, lan3.receiver)}", bind="any", engine=engine
    ) as receiver:
        receiver.join(at(family.other, lan3.receiver), [first, second])
        assert [(str(joined.group), joined.mode, [*map(str, joined.sources)]) for joined in receiver.memberships] == [
            (family.group, FilterMode.EXCLUDE, []),
            (family.specific, FilterMode.INCLUDE, [first]),
            (family.other, FilterMode.INCLUDE, [first, second]),
        ]
        assert heard(receiver, lan3.receiver, pair, family.group) == {b"first", b"second"}
        assert heard(receiver, lan3.receiver, pair, family.specific) == {b"first"}
        assert heard(receiver, lan3.receiver, pair, family.other) == {b"first", b"second"}


def test_close_ends_the_memberships_in_the_kernel(family: Family, lan3: Lan3, pair: list[Source]) -> None:
    receiver = Receiver(at(family.group, lan3.receiver))
    assert is_joined(lan3.receiver, family.group)
    receiver.close()
    assert not is_joined(lan3.receiver, family.group)


def test_a_block_holds_for_the_receiver_that_asked_only(
    family: Family, engine: str, lan3: Lan3, pair: list[Source]
) -> None:
    with (
        Receiver(at(family.group, lan3.receiver), engine=engine) as one,
        Receiver(at(family.group, lan3.receiver), engine=engine) as other,
    ):
        one.block(family.group, family.address(lan3.second))
        assert heard(one, lan3.receiver, pair, family.group) == {b"first"}
        assert {payload.split()[0] for payload in drain(other)} == {b"first", b"second"}
