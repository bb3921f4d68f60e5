"""Joins and leaves that cannot be: one clear error, and what was joined before is still joined and received."""

from __future__ import annotations

import errno
import re
import socket
from typing import TYPE_CHECKING

import pytest
from netlab import loopback as loopback_of
from netlab import wait_until
from receivelab import (
    FAMILIES,
    PORT,
    TIMEOUT,
    V4,
    V6,
    Family,
    Worker,
    at,
    descriptors,
    drain,
    exchange,
    family_name,
    is_joined,
    member,
    receive,
    sources,
)

from mcastfast import Receiver
from mcastfast.errors import sysctl
from mcastfast.interface import InterfaceLike, interfaces, resolve_interface, resolve_interfaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab import Lan, Link, Namespace

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.needs("ipv6")]

families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)

GONE = "The interface is gone: `mcastfast interfaces` lists those of this host."


def test_a_join_beyond_the_limit_names_the_sysctl_and_its_value(engine: str, lan: Lan) -> None:
    """What was joined before stays joined and is received."""
    link = lan.receiver
    with link.namespace, Receiver(at(V4.group, link), bind="any", engine=engine) as receiver:
        limit = int(sysctl("net.ipv4.igmp_max_memberships"))
        for number in range(1, limit):
            receiver.join(at(V4.pattern % number, link))
        before = receiver.memberships
        beyond = V4.pattern % limit
        with pytest.raises(OSError, match=f"join {re.escape(beyond)} on {link.name}: No buffer space") as raised:
            receiver.join(at(beyond, link))
        assert raised.value.errno == errno.ENOBUFS
        assert f"net.ipv4.igmp_max_memberships = {limit}" in raised.value.__notes__[0]
        assert "sysctl -w net.ipv4.igmp_max_memberships=" in raised.value.__notes__[0]
        assert receiver.memberships == before
        assert len(before) == limit
        joined = [(V4.group, link.index), (beyond, link.index)]
        with sources(lan.sender) as (source,), member(link.namespace, *joined) as observer:
            exchange(observer, (source, beyond, b"beyond"), (source, V4.group, b"joined"))
            assert drain(receiver) == [b"joined"]


def test_a_receiver_of_too_many_groups_is_not_opened_at_all(loopback: Link) -> None:
    limit = int(sysctl("net.ipv4.igmp_max_memberships"))
    before = descriptors()
    with pytest.raises(OSError, match="No buffer space") as raised:
        Receiver(*(at(V4.pattern % number, loopback) for number in range(1, limit + 2)))
    assert raised.value.errno == errno.ENOBUFS
    assert f"net.ipv4.igmp_max_memberships = {limit}" in raised.value.__notes__[0]
    del raised
    assert descriptors() == before
    assert not is_joined(loopback, V4.pattern % 1)


def test_more_sources_than_allowed_names_the_sysctl_and_joins_none(loopback: Link) -> None:
    limit = int(sysctl("net.ipv4.igmp_max_msf"))
    before = descriptors()
    with pytest.raises(OSError, match="No buffer space") as raised:
        Receiver(at(V4.specific, loopback), source=[f"10.0.0.{number}" for number in range(1, limit + 2)])
    assert f"net.ipv4.igmp_max_msf = {limit}" in raised.value.__notes__[0]
    assert "sysctl -w net.ipv4.igmp_max_msf=" in raised.value.__notes__[0]
    del raised
    assert descriptors() == before


@families
def test_steps_that_rfc_3678_forbids_leave_everything_as_it_was(loopback: Link, family: Family) -> None:
    one, two = ("10.0.0.1", "10.0.0.2") if family is V4 else ("fd00::1", "fd00::2")
    with Receiver(at(family.group, loopback), f"{one}@{at(family.specific, loopback)}", bind="any") as receiver:
        before = receiver.memberships
        steps: list[tuple[int, Callable[[], None]]] = [
            (errno.EADDRINUSE, lambda: receiver.join(family.group)),
            (errno.EADDRINUSE, lambda: receiver.join(family.group, one)),
            (errno.EADDRINUSE, lambda: receiver.join(family.specific, one)),
            (errno.EADDRNOTAVAIL, lambda: receiver.leave(family.other)),
            (errno.EADDRNOTAVAIL, lambda: receiver.leave(family.specific, two)),
            (errno.EINVAL, lambda: receiver.leave(family.group, one)),
            (errno.EINVAL, lambda: receiver.block(family.specific, two)),
            (errno.EADDRNOTAVAIL, lambda: receiver.block(family.other, one)),
            (errno.EADDRNOTAVAIL, lambda: receiver.unblock(family.group, one)),
            (errno.EINVAL, lambda: receiver.unblock(family.specific, one)),
        ]
        for code, call in steps:
            with pytest.raises(OSError, match=r"(join|leave|block|unblock) .* on lo: |joined is") as raised:
                call()
            assert raised.value.errno == code
            assert receiver.memberships == before


@families
@pytest.mark.parametrize("name", ["join", "leave", "block", "unblock"])
def test_membership_calls_refuse_what_no_receiver_can_hear(loopback: Link, family: Family, name: str) -> None:
    other = V6 if family is V4 else V4
    source = family.address(loopback)
    arguments = () if name in ("join", "leave") else (source,)
    with Receiver(at(family.group, loopback), bind="any") as receiver:
        before = receiver.memberships
        call = getattr(receiver, name)
        with pytest.raises(ValueError, match=r"is not of this receiver's family and port \(.* port 5000\): use a Rec"):
            call(at(family.other, loopback, PORT + 1), *arguments)
        with pytest.raises(ValueError, match=r"is not of this receiver's family and port .*ReceiverSet"):
            call(other.group, *(other.address(loopback) for _ in arguments))
        with pytest.raises(ValueError, match="is not a multicast address"):
            call("10.0.0.1" if family is V4 else "fd00::1", *arguments)
        with pytest.raises(ValueError, match="both must be of one family"):
            call(family.group, other.address(loopback))
        with pytest.raises(ValueError, match="unknown interface 'eth9'"):
            call(family.group, *arguments, interface="eth9")
        with pytest.raises(ValueError, match="interface is lo in the group but eth9 in interface=; give it once"):
            call(at(family.group, loopback), *arguments, interface="eth9")
        with pytest.raises(TypeError, match=r"a group is a text such as '239\.1\.2\.3:5000', not int"):
            call(5, *arguments)
        assert receiver.memberships == before


def test_block_and_unblock_want_a_source(loopback: Link) -> None:
    with Receiver(at(V4.group, loopback)) as receiver:
        for call in (receiver.block, receiver.unblock):
            with pytest.raises(TypeError, match="source"):
                call(V4.group)  # type: ignore[call-arg]
            with pytest.raises(ValueError, match="source= names no source"):
                call(V4.group, [])
        assert receiver.memberships[0].sources == ()


@families
def test_another_group_on_a_bound_receiver_names_bind_any(loopback: Link, family: Family) -> None:
    with Receiver(at(family.group, loopback)) as receiver:
        text = f'this receiver is bound to {family.group} and never hears {family.other}: open it with bind="any"'
        with pytest.raises(ValueError, match=re.escape(text)):
            receiver.join(at(family.other, loopback))
        assert [str(joined.group) for joined in receiver.memberships] == [family.group]


def test_another_interface_on_a_bound_ipv6_receiver_names_bind_any(link: Link) -> None:
    with Receiver(at(V6.group, link)) as receiver:
        text = f'this receiver is bound to interface {link.name} and never hears lo: open it with bind="any"'
        with pytest.raises(ValueError, match=re.escape(text)):
            receiver.join(f"[{V6.group}%lo]")


def test_a_link_local_group_on_two_interfaces_cannot_be_bound(link: Link) -> None:
    groups = [f"[ff12::1%{name}]:{PORT}" for name in ("lo", link.name)]
    with pytest.raises(
        ValueError, match=r'binds ff12::1, which is link-local, on one interface, not 2: use bind="any"'
    ):
        Receiver(*groups, bind="group")
    with Receiver(*groups) as receiver:
        assert len(receiver.memberships) == 2


@families
def test_an_any_source_join_in_the_source_specific_range_says_what_to_write(loopback: Link, family: Family) -> None:
    text = "write source@%s or pass source=, or strict=False"
    shown = family.specific if family is V4 else f"[{family.specific}]"
    with pytest.raises(ValueError, match=re.escape(text % at(family.specific, loopback))):
        Receiver(at(family.specific, loopback))
    with Receiver(at(family.group, loopback), bind="any") as receiver:
        before = receiver.memberships
        with pytest.raises(ValueError, match=re.escape(text % shown)):
            receiver.join(family.specific)
        assert receiver.memberships == before
        receiver.join(f"{family.address(loopback)}@{shown}")
        receiver.leave(family.specific)
        assert receiver.memberships == before


@families
def test_strict_false_joins_the_source_specific_range_from_any_source(
    engine: str, loopback: Link, family: Family
) -> None:
    with (
        Receiver(at(family.specific, loopback), strict=False, engine=engine) as opened,
        Receiver(at(family.group, loopback), bind="any", strict=False, engine=engine) as joined,
        sources(loopback) as (source,),
    ):
        joined.join(family.specific)
        for receiver in (opened, joined):
            assert (str(receiver.memberships[-1].group), receiver.memberships[-1].sources) == (family.specific, ())
        source.send(family.specific, b"from any source")
        assert receive(opened, 1) == receive(joined, 1) == [b"from any source"]


@families
@pytest.mark.parametrize("mode", ["auto", "group", "any"])
def test_an_interface_that_is_deleted_ends_nothing_but_its_traffic(
    engine: str, lan: Lan, family: Family, mode: str
) -> None:
    link = lan.receiver
    with link.namespace, sources(lan.sender) as (source,):
        receiver = Receiver(at(family.group, link), bind=mode, engine=engine)
        source.send(family.group, b"before")
        assert receive(receiver, 1) == [b"before"]
        blocked = Worker(receiver.recv_batch, 0.2)
        blocked.wait_until_blocked()
        link.namespace.ip.link("del", index=link.index)
        with pytest.raises(TimeoutError):
            blocked.result()
        with pytest.raises(BlockingIOError):
            receiver.recv_batch(0)
        assert receiver.stats.datagrams == 1
        assert receiver.memberships[0].interface.name == link.name
        receiver.leave(family.group)
        assert receiver.memberships == ()
        receiver.close()


@families
def test_other_interfaces_go_on_when_one_is_deleted(engine: str, lan: Lan, family: Family) -> None:
    link = lan.receiver
    local = loopback_of(link.namespace)
    local.route_multicast()
    with (
        link.namespace,
        sources(local) as (source,),
        Receiver(at(family.group, link), at(family.group, local), engine=engine) as receiver,
    ):
        assert {joined.interface.index for joined in receiver.memberships} == {local.index, link.index}
        link.namespace.ip.link("del", index=link.index)
        source.send(family.group, b"by lo")
        assert receive(receiver, 1) == [b"by lo"]
        receiver.leave(family.group, interface=link.name)
        assert [joined.interface.name for joined in receiver.memberships] == ["lo"]
        source.send(family.group, b"by lo still")
        assert receive(receiver, 1) == [b"by lo still"]


@families
@pytest.mark.parametrize("mode", ["auto", "group", "any"])
def test_membership_calls_on_an_interface_that_is_deleted_say_that_it_is_gone(
    lan: Lan, family: Family, mode: str
) -> None:
    link = lan.receiver
    one, two = ("10.0.0.1", "10.0.0.2") if family is V4 else ("fd00::1", "fd00::2")
    with link.namespace, Receiver(at(family.group, link), bind=mode) as receiver:
        receiver.block(family.group, one)
        before = receiver.memberships
        link.namespace.ip.link("del", index=link.index)
        steps: list[tuple[str, Callable[[], None]]] = [
            (f"block {family.group} from {two}", lambda: receiver.block(family.group, two)),
            (f"block {family.group} from {two}", lambda: receiver.block(family.group, two, interface=link.name)),
            (f"unblock {family.group} from {one}", lambda: receiver.unblock(family.group, one)),
        ]
        for text, call in steps:
            with pytest.raises(OSError, match=f"{re.escape(text)} on {link.name}: No such device") as raised:
                call()
            assert raised.value.errno == errno.ENODEV
            assert raised.value.__notes__ == [GONE]
            assert receiver.memberships == before
        for another in (family.group, at(family.other, link)):
            with pytest.raises(ValueError, match=f"unknown interface '{link.name}': this host has lo "):
                receiver.join(another)
        assert receiver.memberships == before
        receiver.leave(family.group)
        assert receiver.memberships == ()


def _made(namespace: Namespace, name: str) -> int:
    """The index of a new interface that is up and has an address."""
    namespace.ip.link("add", ifname=name, kind="veth", peer={"ifname": f"{name}-far"})
    for each in (f"{name}-far", name):
        (index,) = namespace.ip.link_lookup(ifname=each)
        namespace.ip.link("set", index=index, state="up")
    namespace.ip.addr("add", index=index, address="10.99.1.1", prefixlen=24)
    # Of IPv6 the kernel gives it an address when the link is there.
    wait_until(lambda: index in {found.index for found in resolve_interfaces("all", socket.AF_INET6)}, TIMEOUT)
    return int(index)


@pytest.mark.parametrize("way", ["name", "index", "digits", "interface", "address"])
def test_a_group_is_joined_again_on_an_interface_that_was_deleted_and_came_back(lan: Lan, way: str) -> None:
    namespace = lan.receiver.namespace
    with namespace:
        index = _made(namespace, "again")
        itself = resolve_interface(index, socket.AF_INET)
        ways: dict[str, InterfaceLike] = {"name": "again", "index": index, "digits": str(index)}
        ways |= {"interface": itself, "address": "10.99.1.1"}
        with Receiver("239.1.2.3:5000", interface=ways[way]) as receiver:
            namespace.ip.link("del", index=index)
            renewed = _made(namespace, "again")
            assert [joined.interface.index for joined in receiver.memberships] == [index]
            receiver.join("239.1.2.3")
            assert [joined.interface.index for joined in receiver.memberships] == [renewed]
            assert receiver.interface is not None
            namespace.ip.link("del", index=renewed)


def test_a_join_on_all_interfaces_adds_what_is_new_and_may_be_repeated(lan: Lan) -> None:
    namespace, there = lan.receiver.namespace, lan.receiver.index
    with namespace, Receiver(V4.group, port=PORT, interface="all") as receiver:
        receiver.join(V4.group, interface="all")
        assert [joined.interface.index for joined in receiver.memberships] == [there]
        index = _made(namespace, "new")
        receiver.join(V4.group)
        assert {joined.interface.index for joined in receiver.memberships} == {there, index}
        namespace.ip.link("del", index=index)
        receiver.join(V4.group)
        assert [joined.interface.index for joined in receiver.memberships] == [there]
        assert receiver.skipped == ()


@families
def test_a_block_is_made_where_the_interface_is_not_deleted(lan: Lan, family: Family) -> None:
    namespace, there = lan.receiver.namespace, lan.receiver.index
    one, two = ("10.0.0.1", "10.0.0.2") if family is V4 else ("fd00::1", "fd00::2")
    with namespace:
        index = _made(namespace, "new")
        with Receiver(family.group, port=PORT, interface="all", bind="any") as receiver:
            assert {joined.interface.index for joined in receiver.memberships} >= {there, index}
            receiver.block(family.group, one)
            namespace.ip.link("del", index=index)
            receiver.block(family.group, two)
            assert [joined.interface.index for joined in receiver.memberships] == [there]
            assert list(map(str, receiver.memberships[0].sources)) == [one, two]
            receiver.unblock(family.group, one)
            assert list(map(str, receiver.memberships[0].sources)) == [two]


@families
def test_a_block_forgets_other_interfaces_that_are_deleted(lan: Lan, family: Family) -> None:
    namespace, there = lan.receiver.namespace, lan.receiver.index
    one = "10.0.0.1" if family is V4 else "fd00::1"
    with namespace:
        index = _made(namespace, "new")
        with Receiver(family.group, port=PORT, interface="all", bind="any") as receiver:
            assert len(receiver.memberships) > 1
            namespace.ip.link("del", index=index)
            receiver.block(family.group, one, interface=lan.receiver.name)
            assert [joined.interface.index for joined in receiver.memberships] == [there]


def test_a_join_beside_one_that_forgets_the_same_deleted_interface(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace, there = lan.receiver.namespace, lan.receiver.index
    with namespace:
        index = _made(namespace, "new")
        with Receiver(V4.group, port=PORT, interface="all") as receiver:
            namespace.ip.link("del", index=index)

            def interfaces_after_the_other() -> object:
                monkeypatch.undo()
                receiver.join(V4.group, interface="all")
                return interfaces()

            monkeypatch.setattr("mcastfast.receiver.interfaces", interfaces_after_the_other)
            receiver.join(V4.group, interface="all")
            assert [joined.interface.index for joined in receiver.memberships] == [there]


@families
def test_an_interface_that_is_deleted_while_it_is_being_joined_is_gone(
    lan: Lan, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name was looked up, then the interface went."""
    link = lan.receiver
    with link.namespace, Receiver(f"[{family.group}%lo]:{PORT}", bind="any") as receiver:
        found = resolve_interfaces(link.name, family.number)
        link.namespace.ip.link("del", index=link.index)
        monkeypatch.setattr("mcastfast.receiver.resolve_interfaces", lambda *_: found)
        with pytest.raises(OSError, match=f"join {re.escape(family.other)} on {link.name}: No such device") as raised:
            receiver.join(at(family.other, link))
        assert raised.value.errno == errno.ENODEV
        assert raised.value.__notes__ == [GONE]
        assert [joined.interface.name for joined in receiver.memberships] == ["lo"]


def test_membership_calls_on_a_closed_receiver_are_ebadf(loopback: Link) -> None:
    receiver = Receiver(at(V4.group, loopback), bind="any")
    receiver.block(V4.group, "10.0.0.9")
    receiver.close()
    calls: list[Callable[[], None]] = [
        lambda: receiver.join(at(V4.other, loopback)),
        lambda: receiver.leave(V4.group),
        lambda: receiver.block(V4.group, "10.0.0.7"),
        lambda: receiver.unblock(V4.group, "10.0.0.9"),
    ]
    for name, call in zip(("join", "leave", "block", "unblock"), calls, strict=True):
        text = rf"{name} of .*239\.1\.2\..* on 239\.1\.2\.3%lo port 5000: it is closed"
        with pytest.raises(OSError, match=text) as raised:
            call()
        assert raised.value.errno == errno.EBADF


def test_membership_calls_after_detach_leave_the_socket_alone(loopback: Link) -> None:
    receiver = Receiver(at(V4.group, loopback), bind="any")
    with receiver.detach():
        with pytest.raises(OSError, match=r"239\.1\.2\.3 on .* port 5000: it is closed") as raised:
            receiver.leave(V4.group)
        assert raised.value.errno == errno.EBADF
        assert is_joined(loopback, V4.group)
