"""What bind= binds: the group where that separates it from others, else the wildcard address and a filter."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from netlab import connect, namespaces
from receivelab import FAMILIES, PORT, V4, V6, Family, at, family_name, receive, sources

from mcastfast import Group, Receiver
from mcastfast.binding import BIND_MODES, Binding, plan_binding, plan_ring_binding
from mcastfast.errors import Platform, UnsupportedError
from mcastfast.interface import Interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Lan, Link

ETH0, ETH1 = Interface("eth0", 2), Interface("eth1", 3)
SO_BINDTOIFINDEX = 62
MULTICAST_ALL = {socket.AF_INET: (socket.IPPROTO_IP, 49), socket.AF_INET6: (socket.IPPROTO_IPV6, 29)}

families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)


def joins(*wanted: tuple[str, tuple[Interface, ...]]) -> list[tuple[Group, tuple[Interface, ...]]]:
    return [(Group.parse(text), interfaces) for text, interfaces in wanted]


ANY = Binding(filters=True)


@pytest.mark.parametrize(
    ("wanted", "auto", "group"),
    [
        ([(V4.group, (ETH0,))], Binding(Group.parse(V4.group).address), "as auto"),
        ([(V4.group, (ETH0, ETH1))], Binding(Group.parse(V4.group).address), "as auto"),
        ([(V4.group, (ETH0,)), (V4.group, (ETH1,))], Binding(Group.parse(V4.group).address), "as auto"),
        ([(V4.group, (ETH0,)), (V4.other, (ETH0,))], ANY, "refused"),
        ([(V6.group, (ETH0,))], Binding(Group.parse(V6.group).address, ETH0), "as auto"),
        ([(V6.group, (ETH0, ETH1))], ANY, Binding(Group.parse(V6.group).address, filters=True)),
        ([(V6.group, (ETH0,)), (V6.other, (ETH0,))], ANY, "refused"),
        ([("ff12::1", (ETH0,))], Binding(Group.parse("ff12::1").address, ETH0), "as auto"),
        ([("ff12::1", (ETH0, ETH1))], ANY, "refused"),
    ],
)
def test_each_mode_binds_what_it_promises(wanted: Any, auto: Binding, group: Binding | str) -> None:
    planned = joins(*wanted)
    linux = Platform.LINUX
    assert plan_binding("any", planned, platform=linux) == ANY
    assert plan_binding("auto", planned, platform=linux) == auto
    if group == "refused":
        with pytest.raises(ValueError, match='bind="group" binds'):
            plan_binding("group", planned, platform=linux)
    else:
        assert plan_binding("group", planned, platform=linux) == (auto if group == "as auto" else group)


@families
def test_all_interfaces_are_planned_for_where_there_is_one(family: Family) -> None:
    """The next may come, and the join be repeated."""
    group = Group.parse(family.group).address
    one = joins((family.group, (ETH0,)))
    linux = Platform.LINUX
    assert plan_binding("auto", one, wants_all=True, platform=linux) == (Binding(group) if family is V4 else ANY)
    assert plan_binding("group", one, wants_all=True, platform=linux) == plan_binding("group", one, platform=linux)


@families
@pytest.mark.parametrize("mode", BIND_MODES)
def test_a_ring_binds_as_the_socket_does_and_is_on_its_one_interface(family: Family, mode: str) -> None:
    one, other = (family.group, (ETH0,)), (family.other, (ETH0,))
    for wanted, wants_all, found in (
        ([one], False, None if mode == "any" else ETH0),
        ([one, other], False, None if mode == "any" else ETH0),
        ([one], True, ETH0 if mode == "group" and family is V6 else None),
        ([(family.group, (ETH0, ETH1))], False, None),
    ):
        if mode == "group" and len(wanted) > 1:
            continue
        planned = joins(*wanted)
        binding = plan_binding(mode, planned, wants_all=wants_all)
        assert plan_ring_binding(mode, planned, wants_all=wants_all) == binding._replace(
            filters=True, ring_interface=found
        )


@pytest.mark.parametrize("chosen", ["socket", pytest.param("packet", marks=pytest.mark.needs("packet_socket"))])
@families
def test_a_receiver_on_all_interfaces_hears_one_that_comes_later(lan: Lan, family: Family, chosen: str) -> None:
    near, far = lan
    with near.namespace, Receiver(family.group, port=PORT, interface="all", engine=chosen) as receiver:
        assert receiver.interface
        _, new_far = connect(near.namespace, far.namespace, subnet=2)
        receiver.join(family.group)
        with sources(far, new_far) as opened:
            for source in opened:
                source.send(family.group, b"by each")
                assert receive(receiver, 1) == [b"by each"]


@pytest.fixture
def links(isolated: None) -> Iterator[list[Link]]:
    """Two interfaces of the host on which the test runs."""
    with namespaces(2) as (inside, outside):
        pairs = [connect(inside, outside, subnet=number) for number in (1, 2)]
        with inside:
            yield [near for near, _ in pairs]


@families
def test_the_socket_is_bound_as_planned(links: list[Link], family: Family) -> None:
    near, far = links
    wildcard = "0.0.0.0" if family is V4 else "::"
    for groups, mode, host, index in [
        ([at(family.group, near)], "auto", family.group, near.index if family is V6 else 0),
        ([at(family.group, near)], "any", wildcard, 0),
        ([at(family.group, near), at(family.other, near)], "auto", wildcard, 0),
        ([at(family.group, near), at(family.group, far)], "auto", family.group if family is V4 else wildcard, 0),
        ([at(family.group, near), at(family.group, far)], "group", family.group, 0),
    ]:
        with Receiver(*groups, bind=mode) as receiver, receiver.detach() as sock:
            assert receiver.address[:2] == (host, PORT)
            assert sock.getsockname() == receiver.address
            assert sock.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == index


@families
def test_no_receiver_gets_what_only_other_sockets_joined(links: list[Link], family: Family) -> None:
    """MULTICAST_ALL is off, IPv6 sockets are IPv6 only, and the port is shared by SO_REUSEADDR alone."""
    for mode in ("group", "any"):
        with Receiver(at(family.group, links[0]), bind=mode).detach() as sock:
            assert sock.getsockopt(*MULTICAST_ALL[family.number]) == 0
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
            if family is V6:
                assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_a_link_local_group_is_bound_with_its_zone(links: list[Link]) -> None:
    near, _ = links
    with Receiver(f"[ff12::1%{near.name}]:{PORT}") as receiver:
        assert receiver.address == ("ff12::1", PORT, 0, near.index)


def test_bind_any_adds_the_destination_to_the_metadata(links: list[Link]) -> None:
    near, _ = links
    for mode, number in (("group", 0), ("any", 1)):
        with Receiver(at(V4.group, near), bind=mode).detach() as sock:
            assert sock.getsockopt(socket.IPPROTO_IP, 8) == number


@families
def test_a_join_without_interface_goes_where_the_receiver_was_opened(links: list[Link], family: Family) -> None:
    _, far = links
    for receiver in (
        Receiver(at(family.group, far), bind="any"),
        Receiver(f"[{family.group}]:{PORT}", interface=far.index, bind="any"),
    ):
        with receiver:
            receiver.join(family.other)
            assert [joined.interface.name for joined in receiver.memberships] == [far.name] * 2


def test_the_route_decides_where_no_interface_is_named(links: list[Link]) -> None:
    near, far = links
    far.namespace.ip.route("add", dst="224.0.0.0/4", oif=far.index)
    far.namespace.ip.route("add", dst="239.1.2.4/32", oif=near.index)
    with Receiver(V4.group, port=PORT, bind="any") as receiver:
        assert receiver.interface is not None
        assert receiver.interface.name == far.name
        receiver.join(V4.other)
        assert [joined.interface.name for joined in receiver.memberships] == [far.name, near.name]
        assert str(receiver) == f"{V4.group}%{far.name}, {V4.other}%{near.name} port {PORT}"


def test_names_indexes_and_addresses_mean_the_same_interface(links: list[Link]) -> None:
    _, far = links
    with Receiver(at(V4.group, far)) as receiver:
        for named in (far.name, far.index, str(far.index), far.ipv4, receiver.interface):
            receiver.leave(V4.group, interface=named)
            receiver.join(V4.group, interface=named)
        assert [joined.interface.name for joined in receiver.memberships] == [far.name]


@pytest.mark.parametrize("wanted", [[(V4.group, (ETH0,))], [(V6.group, (ETH0,))], [(V4.group, (ETH0, ETH1))]])
def test_no_group_is_bound_where_the_system_would_refuse_it(wanted: Any) -> None:
    planned = joins(*wanted)
    assert plan_binding("auto", planned, platform=Platform.WINDOWS) == ANY
    assert plan_binding("any", planned, platform=Platform.WINDOWS) == ANY
    with pytest.raises(UnsupportedError, match=r'bind="group" is not available on windows, .* use bind="any"'):
        plan_binding("group", planned, platform=Platform.WINDOWS)


def test_a_device_that_was_made_again_is_not_the_one_that_is_bound() -> None:
    group = Group.parse(f"[{V6.group}]:{PORT}")
    binding = Binding(group.address, interface=Interface("tun0", 5))
    binding.check(group, (Interface("tun0", 5),))
    with pytest.raises(
        ValueError, match="the tun0 of index 5, which is gone, and never hears that of index 9: open an"
    ):
        binding.check(group, (Interface("tun0", 9),))
