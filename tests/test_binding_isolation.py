"""Whatever other sockets have joined, a receiver delivers its own groups from its own interfaces and nothing else.

Everything is sent to every group on every interface of the host, while another socket on the same port has joined all
of it, and what each receiver delivers is compared as a whole.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import pytest
from netlab import connect, namespaces, wait_until
from receivelab import (
    FAMILIES,
    PORT,
    TIMEOUT,
    V6,
    Family,
    Source,
    at,
    drain,
    exchange,
    family_name,
    member,
    script,
    sources,
)

from mcastfast import Receiver

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from netlab import Link

pytestmark = [
    pytest.mark.needs("namespaces"),
    pytest.mark.needs("ipv6"),
]

MODES = ["auto", "group", "any"]
families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)
modes = pytest.mark.parametrize("mode", MODES)

Sends = list[tuple[Source, str, bytes]]


class Host:
    """A host with two interfaces, a source behind each."""

    def __init__(self, links: list[Link], opened: list[Source]) -> None:
        self.links = links
        self.sources = opened

    def everything(self, *groups: str, tag: str = "") -> Sends:
        """One datagram to each group on each interface; the payload tells which."""
        return [
            (source, group, f"{group}%{link.name}{tag}".encode())
            for group in groups
            for link, source in zip(self.links, self.sources, strict=True)
        ]

    def joined_to_all(self, *groups: str) -> list[tuple[str, int]]:
        """What a socket joins that is to get all that everything() sends."""
        return [(group, link.index) for group in groups for link in self.links]


@pytest.fixture
def host(isolated: None) -> Iterator[Host]:
    """The test runs on it."""
    with namespaces(3) as (inside, *outside):
        pairs = [connect(inside, other, subnet=number) for number, other in enumerate(outside, 1)]
        with sources(*(far for _, far in pairs)) as opened, inside:
            yield Host([near for near, _ in pairs], opened)


@pytest.fixture
def observer(host: Host, family: Family) -> Iterator[socket.socket]:
    """Another socket on the same port that has joined both groups on both interfaces."""
    with member(host.links[0].namespace, *host.joined_to_all(family.group, family.other)) as sock:
        yield sock


def named(*pairs: tuple[str, Link], tag: str = "") -> list[bytes]:
    """The payloads of everything() for these groups and interfaces."""
    return sorted(f"{group}%{link.name}{tag}".encode() for group, link in pairs)


@families
@pytest.mark.parametrize(("first_mode", "second_mode"), [*itertools.product(MODES, MODES)])
def test_two_receivers_of_different_groups_share_a_port_and_nothing_else(
    host: Host, observer: socket.socket, family: Family, engine: str, first_mode: str, second_mode: str
) -> None:
    near, far = host.links
    with (
        Receiver(at(family.group, near), bind=first_mode, engine=engine) as first,
        Receiver(at(family.other, far), bind=second_mode, engine=engine) as second,
    ):
        exchange(observer, *host.everything(family.group, family.other))
        assert drain(first) == named((family.group, near))
        assert drain(second) == named((family.other, far))


@families
@modes
def test_two_receivers_of_one_group_on_two_interfaces_are_apart(
    host: Host, observer: socket.socket, family: Family, engine: str, mode: str
) -> None:
    near, far = host.links
    with (
        Receiver(at(family.group, near), bind=mode, engine=engine) as first,
        Receiver(at(family.group, far), bind=mode, engine=engine) as second,
    ):
        exchange(observer, *host.everything(family.group, family.other))
        assert drain(first) == named((family.group, near))
        assert drain(second) == named((family.group, far))


@families
@modes
def test_one_receiver_hears_one_group_on_both_interfaces(
    host: Host, observer: socket.socket, family: Family, engine: str, mode: str
) -> None:
    near, far = host.links
    with Receiver(at(family.group, near), at(family.group, far), bind=mode, engine=engine) as receiver:
        assert [interface.index for interface in receiver.interfaces] == [near.index, far.index]
        assert receiver.interface is None
        exchange(observer, *host.everything(family.group, family.other))
        assert sorted(drain(receiver)) == named((family.group, near), (family.group, far))


@families
@modes
def test_all_interfaces_are_those_that_have_multicast_without_loopback(
    host: Host, observer: socket.socket, family: Family, engine: str, mode: str
) -> None:
    near, far = host.links
    with Receiver(f"[{family.group}]:{PORT}", interface="all", bind=mode, engine=engine) as receiver:
        assert [interface.name for interface in receiver.interfaces] == [near.name, far.name]
        assert receiver.skipped == ()
        exchange(observer, *host.everything(family.group, family.other))
        assert sorted(drain(receiver)) == named((family.group, near), (family.group, far))


@families
@modes
def test_source_specific_on_all_interfaces_hears_its_sources_wherever_they_are(
    host: Host, family: Family, engine: str, mode: str
) -> None:
    near, far = host.links
    beyond = [family.address(source.link) for source in host.sources]
    group = f"[{family.specific}]:{PORT}"
    with (
        Receiver(group, interface="all", source=beyond, bind=mode, engine=engine) as both,
        Receiver(group, interface="all", source=beyond[0], bind=mode, engine=engine) as one,
        Receiver(group, interface="all", source=family.address(near), bind=mode, engine=engine) as none,
        member(near.namespace, *host.joined_to_all(family.specific)) as observer,
    ):
        for receiver, wanted in ((both, beyond), (one, beyond[:1])):
            joined = [(member.interface.name, [*map(str, member.sources)]) for member in receiver.memberships]
            assert joined == [(near.name, wanted), (far.name, wanted)]
            assert receiver.skipped == ()
        exchange(observer, *host.everything(family.specific))
        assert sorted(drain(both)) == named((family.specific, near), (family.specific, far))
        assert drain(one) == named((family.specific, near))
        assert drain(none) == []


@families
def test_crossed_groups_and_interfaces_are_kept_apart_in_one_receiver(
    host: Host, observer: socket.socket, family: Family, engine: str
) -> None:
    """One group on one interface, the other on the other: neither comes from where the other is joined."""
    near, far = host.links
    with Receiver(at(family.group, near), at(family.other, far), engine=engine) as receiver:
        exchange(observer, *host.everything(family.group, family.other))
        assert sorted(drain(receiver)) == named((family.group, near), (family.other, far))


@pytest.mark.parametrize("mode", ["auto", "any"])
@families
def test_foreign_datagrams_that_reach_the_socket_are_counted(
    host: Host, observer: socket.socket, family: Family, engine: str, mode: str
) -> None:
    """IPv6 looks at the group only, whatever the interface; IPv4 keeps the other interface away by itself."""
    near, far = host.links
    with Receiver(at(family.group, near), at(family.other, far), bind=mode, engine=engine) as receiver:
        exchange(observer, *host.everything(family.group, family.other))
        assert sorted(drain(receiver)) == named((family.group, near), (family.other, far))
        assert receiver.stats.foreign == (4 if family is V6 else 0)  # two payloads, two ends
        assert receiver.stats.datagrams == 4


@families
@modes
def test_source_specific_and_any_source_receivers_of_one_group_are_apart(
    host: Host, observer: socket.socket, family: Family, engine: str, mode: str
) -> None:
    near, far = host.links
    absent = family.address(near).replace(".1.1", ".1.77").replace("::1", "::77")
    with (
        Receiver(at(family.group, near), source=absent, bind=mode, engine=engine) as deaf,
        Receiver(at(family.group, far), source=family.address(host.sources[1].link), bind=mode, engine=engine) as one,
        Receiver(at(family.group, far), bind=mode, engine=engine) as every,
    ):
        exchange(observer, *host.everything(family.group, family.other))
        assert drain(deaf) == []
        assert drain(one) == named((family.group, far))
        assert drain(every) == named((family.group, far))


@families
@modes
def test_what_another_process_joins_is_not_delivered_here(
    host: Host, observer: socket.socket, family: Family, engine: str, mode: str
) -> None:
    text = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from contextlib import closing
from receivelab import plain_join, plain_socket
family, port, *joins = eval(sys.argv[2])
with plain_socket(family, port=port) as sock:
    for group, index in joins:
        plain_join(sock, group, index)
    print("joined")
    for number in range(len(joins)):
        print(sock.recv(2048).decode())
    sys.stdin.read()
"""
    near, _ = host.links
    joins = host.joined_to_all(family.group, family.other)
    arguments = (":".join(sys.path), repr((int(family.number), PORT, *joins)))
    with script(text, *arguments, namespace=near.namespace) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
        with Receiver(at(family.group, near), bind=mode, engine=engine) as receiver:
            sends = host.everything(family.group, family.other)
            exchange(observer, *sends)
            assert drain(receiver) == named((family.group, near))
        assert sorted(process.stdout.readline().encode().strip() for _ in joins) == sorted(sent[2] for sent in sends)
        process.communicate(timeout=TIMEOUT)


CHURN = """
import socket, struct, sys, threading
sys.path[:0] = sys.argv[1].split(":")
from receivelab import plain_join, plain_socket
family, port, *joins = eval(sys.argv[2])
level, leave, layout = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, "=4s4xi"),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, "=16sI"),
}[family]
rounds = 0
def churn():
    global rounds
    with plain_socket(family, port=port) as sock:
        while True:
            for group, index in joins:
                plain_join(sock, group, index)
            for group, index in joins:
                sock.setsockopt(level, leave, struct.pack(layout, socket.inet_pton(family, group), index))
            rounds += 1
threading.Thread(target=churn, daemon=True).start()
for line in sys.stdin:
    print(rounds)
"""


@families
@modes
def test_two_receivers_stay_apart_while_another_process_joins_and_leaves(
    host: Host, observer: socket.socket, family: Family, engine: str, mode: str
) -> None:
    near, far = host.links
    joins = host.joined_to_all(family.group, family.other)
    arguments = (":".join(sys.path), repr((int(family.number), PORT, *joins)))
    with (
        script(CHURN, *arguments, namespace=near.namespace) as process,
        Receiver(at(family.group, near), bind=mode, engine=engine) as first,
        Receiver(at(family.other, far), bind=mode, engine=engine) as second,
    ):

        def rounds() -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("how many\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        wait_until(rounds, TIMEOUT)
        begun, number = rounds(), 0
        while number < 20 or rounds() < begun + 20:
            tag = f" {number}"
            exchange(observer, *host.everything(family.group, family.other, tag=tag))
            assert drain(first) == named((family.group, near), tag=tag)
            assert drain(second) == named((family.other, far), tag=tag)
            number += 1
        assert process.poll() is None


@families
def test_what_is_left_is_no_longer_delivered_and_what_is_joined_is(
    host: Host, observer: socket.socket, family: Family, engine: str
) -> None:
    near, far = host.links
    with Receiver(at(family.group, near), bind="any", engine=engine) as receiver:
        receiver.join(at(family.other, far))
        exchange(observer, *host.everything(family.group, family.other, tag=" joined"))
        assert sorted(drain(receiver)) == named((family.group, near), (family.other, far), tag=" joined")

        receiver.leave(family.group)
        exchange(observer, *host.everything(family.group, family.other, tag=" left"))
        assert drain(receiver) == named((family.other, far), tag=" left")

        receiver.join(at(family.other, near))
        exchange(observer, *host.everything(family.group, family.other, tag=" both"))
        assert sorted(drain(receiver)) == named((family.other, near), (family.other, far), tag=" both")

        receiver.leave(at(family.other, far))
        exchange(observer, *host.everything(family.group, family.other, tag=" last"))
        assert drain(receiver) == named((family.other, near), tag=" last")


@families
def test_what_was_queued_before_leave_is_not_delivered_after_it(
    host: Host, observer: socket.socket, family: Family, engine: str
) -> None:
    near, _ = host.links
    with Receiver(at(family.group, near), at(family.other, near), engine=engine) as receiver:
        exchange(observer, *host.everything(family.group, family.other))
        receiver.leave(family.group)
        assert drain(receiver) == named((family.other, near))
        assert receiver.stats.foreign >= 1


@families
@modes
def test_a_receiver_that_left_everything_hears_nothing(
    host: Host, observer: socket.socket, family: Family, engine: str, mode: str
) -> None:
    near, _ = host.links
    with Receiver(at(family.group, near), bind=mode, engine=engine) as receiver:
        receiver.leave(family.group)
        assert receiver.memberships == ()
        exchange(observer, *host.everything(family.group, family.other))
        assert drain(receiver) == []
