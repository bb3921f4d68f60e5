"""The memberships that the table lists are those that the kernel holds, whatever was asked for in whatever order."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from mcastfast.errors import sysctl
from mcastfast.hostgroups import host_memberships
from mcastfast.interface import Interface, interfaces
from mcastfast.membership import FilterMode, Membership, Memberships, Step, transition
from mcastfast.options import Option, set_option
from mcastfast.packing import MembershipRequest
from mcastfast.requests import INDEPENDENT_REQUESTS, SPECIFIC_REQUESTS, Action, request_membership

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

Address: TypeAlias = IPv4Address | IPv6Address
State: TypeAlias = dict[tuple[Address, int], Membership]
Requests: TypeAlias = Mapping[tuple[Action, bool], Option[MembershipRequest]]
View: TypeAlias = set[tuple[Address, int, frozenset[Address], frozenset[Address]]]

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6
GROUPS: dict[int, tuple[Address, ...]] = {
    IPV4: (IPv4Address("239.1.2.3"), IPv4Address("232.1.2.3")),
    IPV6: (IPv6Address("ff15::3"), IPv6Address("ff3e::8000:3")),
}
SOURCES: dict[int, tuple[Address, ...]] = {
    IPV4: tuple(IPv4Address(f"10.0.0.{number}") for number in (7, 8, 9)),
    IPV6: tuple(IPv6Address(f"fd00::{number}") for number in (7, 8, 9)),
}


@pytest.fixture(params=[IPV4, IPV6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def sock(loopback: netlab.Link, family: int) -> Iterator[socket.socket]:
    """A socket of the family in a fresh namespace that the test runs in."""
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        yield opened


@pytest.fixture
def lo(loopback: netlab.Link) -> Interface:
    return interfaces()[0]


MARKER: dict[int, tuple[Address, Address]] = {
    4: (IPv4Address("239.255.0.1"), IPv4Address("10.0.0.1")),
    6: (IPv6Address("ff15::ffff"), IPv6Address("fd00::1")),
}


def kernel_view(groups: tuple[Address, ...]) -> View:
    """What /proc/net/igmp and mcfilter, or igmp6 and mcfilter6, say of these groups in this thread's namespace.

    Where the group that an interface joined last has no sources, the kernel may not tell those of others: a further
    group with a source, joined just for the reading, brings them in.
    """
    version = groups[0].version
    with socket.socket(IPV4 if version == 4 else IPV6, socket.SOCK_DGRAM) as reader:
        for interface in interfaces():
            request = MembershipRequest(*MARKER[version], interface)
            set_option(reader, INDEPENDENT_REQUESTS[Action.JOIN, True], request)
        return {
            (row.group, row.index, frozenset(row.included), frozenset(row.excluded))
            for row in host_memberships()
            if row.group in groups and row.included is not None and row.excluded is not None
        }


def expected_view(memberships: tuple[Membership, ...]) -> View:
    none: frozenset[Address] = frozenset()
    return {
        (member.group, member.interface.index, frozenset(member.sources), none)
        if member.mode is FilterMode.INCLUDE
        else (member.group, member.interface.index, none, frozenset(member.sources))
        for member in memberships
    }


def test_any_sequence_of_calls_leaves_table_and_kernel_alike(lan: netlab.Lan, family: int) -> None:
    with lan.receiver.namespace:
        found = interfaces()
        assert len(found) == 2

        class Calls(RuleBasedStateMachine):
            def __init__(self) -> None:
                super().__init__()
                self.sock = socket.socket(family, socket.SOCK_DGRAM)
                self.memberships = Memberships(self.sock)
                self.model: State = {}

            def teardown(self) -> None:
                self.sock.close()

            @rule(
                action=st.sampled_from(Action),
                group=st.sampled_from(GROUPS[family]),
                sources=st.lists(st.sampled_from(SOURCES[family]), max_size=2),
                chosen=st.lists(st.sampled_from(found), min_size=1, max_size=2),
            )
            def call(self, action: Action, group: Address, sources: list[Address], chosen: list[Interface]) -> None:
                method = getattr(self.memberships, action)
                try:
                    after = self.predict(action, group, sources, chosen)
                except (OSError, ValueError) as error:
                    expected = error
                else:
                    method(group, sources, chosen)
                    self.model = after
                    return
                with pytest.raises(type(expected)) as caught:
                    method(group, sources, chosen)
                assert caught.value.args[0] == expected.args[0]  # the number of an OSError

            def predict(self, action: Action, group: Address, sources: list[Address], chosen: list[Interface]) -> State:
                after = dict(self.model)
                for interface in chosen:
                    for source in sources or (None,):
                        step = Step(action, group, source, interface)
                        state = transition(after.pop(step.key, None), step)
                        if state is not None:
                            after[step.key] = state
                lists = {(state.mode, frozenset(state.sources)) for key, state in after.items() if key[0] == group}
                if family == socket.AF_INET6 and len(lists) > 1:
                    raise OSError(errno.EINVAL, "one list of sources for all interfaces")
                return after

            @invariant()
            def table_and_kernel_agree(self) -> None:
                listed = self.memberships.memberships
                assert {(member.group, member.interface.index): member for member in listed} == self.model
                assert kernel_view(GROUPS[family]) == expected_view(listed)

        run_state_machine_as_test(Calls, settings=settings(max_examples=60, stateful_step_count=25, deadline=None))


REQUESTS = pytest.mark.parametrize(
    "requests", [INDEPENDENT_REQUESTS, SPECIFIC_REQUESTS], ids=["independent", "specific"]
)


@REQUESTS
def test_both_forms_of_request_join_and_leave_alike(
    sock: socket.socket, lo: Interface, family: int, requests: Requests
) -> None:
    group = GROUPS[family][0]
    set_option(sock, requests[Action.JOIN, False], MembershipRequest(group, None, lo))
    assert kernel_view((group,)) == {(group, lo.index, frozenset(), frozenset())}
    set_option(sock, requests[Action.LEAVE, False], MembershipRequest(group, None, lo))
    assert kernel_view((group,)) == set()


@REQUESTS
def test_both_forms_of_request_filter_sources_alike(loopback: netlab.Link, lo: Interface, requests: Requests) -> None:
    any_source, source_specific = GROUPS[IPV4]
    source = SOURCES[IPV4][0]
    with socket.socket(IPV4, socket.SOCK_DGRAM) as sock:

        def ask(action: Action, group: Address, source: Address | None) -> None:
            set_option(sock, requests[action, source is not None], MembershipRequest(group, source, lo))

        ask(Action.JOIN, source_specific, source)
        ask(Action.JOIN, any_source, None)
        ask(Action.BLOCK, any_source, source)
        assert kernel_view(GROUPS[IPV4]) == {
            (source_specific, lo.index, frozenset({source}), frozenset()),
            (any_source, lo.index, frozenset(), frozenset({source})),
        }
        ask(Action.LEAVE, source_specific, source)
        ask(Action.UNBLOCK, any_source, source)
        assert kernel_view(GROUPS[IPV4]) == {(any_source, lo.index, frozenset(), frozenset())}


def test_join_beyond_the_limit_names_the_sysctl_and_its_value(loopback: netlab.Link, lo: Interface) -> None:
    limit = int(sysctl("net.ipv4.igmp_max_memberships"))
    with socket.socket(IPV4, socket.SOCK_DGRAM) as sock:
        memberships = Memberships(sock)
        for number in range(limit):
            memberships.join(IPv4Address("239.1.0.0") + number, (), [lo])
        with pytest.raises(OSError, match=r"join 239\.9\.9\.9 on lo: ") as caught:
            memberships.join(IPv4Address("239.9.9.9"), (), [lo])
        assert caught.value.errno == errno.ENOBUFS
        assert f"net.ipv4.igmp_max_memberships = {limit}" in caught.value.__notes__[0]
        assert len(memberships.memberships) == limit


def test_source_beyond_the_limit_names_the_sysctl_and_keeps_what_was(
    sock: socket.socket, lo: Interface, family: int
) -> None:
    first = SOURCES[family][0]
    limit, name = (10, "net.ipv4.igmp_max_msf") if family == IPV4 else (64, "net.ipv6.mld_max_msf")
    memberships = Memberships(sock)
    memberships.join(GROUPS[family][1], [first], [lo])
    with pytest.raises(OSError, match=f"join .* from {first + limit} on lo: ") as caught:
        memberships.join(GROUPS[family][1], [first + number for number in range(1, limit + 1)], [lo])
    assert caught.value.errno == errno.ENOBUFS
    assert f"{name} = " in caught.value.__notes__[0]
    assert memberships.memberships[0].sources == (first,)
    assert kernel_view(GROUPS[family]) == expected_view(memberships.memberships)


def test_group_of_a_first_source_that_has_no_room_is_not_joined(
    sock: socket.socket, lo: Interface, family: int
) -> None:
    """Linux joins the group first, then adds the source."""
    limit = Path("/proc/sys/net/core/optmem_max")
    group, source = GROUPS[family][1], SOURCES[family][0]
    try:
        before = limit.read_text()
        limit.write_text("80")
    except OSError as error:
        pytest.skip(f"no limit of the namespace's own: {error}")
    memberships = Memberships(sock)
    with pytest.raises(OSError, match=f"join {group} from {source} on lo: ") as caught:
        memberships.join(group, [source], [lo])
    assert caught.value.errno == errno.ENOBUFS
    limit.write_text(before)
    assert kernel_view((group,)) == set()
    memberships.join(group, [source], [lo])
    assert kernel_view((group,)) == expected_view(memberships.memberships)


def test_join_refused_on_one_interface_is_taken_back_on_the_others(lan: netlab.Lan) -> None:
    limit = int(sysctl("net.ipv4.igmp_max_memberships"))
    group = IPv4Address("239.9.9.9")
    with lan.receiver.namespace, socket.socket(IPV4, socket.SOCK_DGRAM) as sock:
        lo, veth = interfaces()
        memberships = Memberships(sock)
        for number in range(limit - 1):
            memberships.join(IPv4Address("239.1.0.0") + number, (), [lo])
        with pytest.raises(OSError, match=rf"join 239\.9\.9\.9 on {veth}: ") as caught:
            memberships.join(group, (), [lo, veth])
        assert "join 239.9.9.9 on lo was made before and is taken back." in caught.value.__notes__
        assert kernel_view((group,)) == set()
        with pytest.raises(OSError, match=rf"join 239\.9\.9\.9 on {veth}: ") as caught:
            memberships.join(group, (), [lo, veth], skip_refusals=True)
        assert any("igmp_max_memberships" in note for note in caught.value.__notes__)
        assert kernel_view((group,)) == set()
        assert memberships.skipped == ()


@pytest.mark.parametrize(("sources", "left"), [(0, 0), (2, 0), (1, 1)])
def test_membership_on_a_deleted_interface_is_left_and_its_place_is_free_again(
    lan: netlab.Lan, family: int, sources: int, left: int
) -> None:
    group = GROUPS[family][1]
    with lan.receiver.namespace, socket.socket(family, socket.SOCK_DGRAM) as sock:
        lo, veth = interfaces()
        memberships = Memberships(sock)
        memberships.join(group, SOURCES[family][:sources], [lo, veth])
        lan.receiver.namespace.ip.link("del", index=veth.index)
        memberships.leave(group, SOURCES[family][:left], [veth])
        assert [member.interface for member in memberships.memberships] == [lo]
        assert kernel_view((group,)) == expected_view(memberships.memberships)
        if family == IPV4:
            limit = int(sysctl("net.ipv4.igmp_max_memberships"))
            for number in range(limit - 1):
                memberships.join(IPv4Address("239.1.0.0") + number, (), [lo])
        with pytest.raises(OSError, match=f"join .* on {veth}: ") as caught:
            memberships.join(GROUPS[family][0], (), [veth])
        assert caught.value.errno in (errno.ENODEV, errno.ENOBUFS)


@pytest.mark.parametrize("sources", [0, 2], ids=["any-source", "source-specific"])
def test_membership_that_another_holder_of_the_socket_ended_is_left_without_an_error(
    sock: socket.socket, lo: Interface, family: int, sources: int
) -> None:
    group = GROUPS[family][1]
    ours = Memberships(sock)
    ours.join(group, SOURCES[family][:sources], [lo])
    with sock.dup() as shared:  # as a forked child has it
        theirs = Memberships(shared)
        theirs._table = dict(ours._table)
        theirs.leave(group)
    ours.leave(group)
    assert ours.memberships == ()
    ours.join(group, (), [lo])
    assert kernel_view((group,)) == expected_view(ours.memberships)


@pytest.mark.parametrize("is_made", [True, False], ids=["made", "not made"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
@pytest.mark.parametrize(
    ("before", "action", "sources"),
    [
        (None, Action.JOIN, 0),
        (None, Action.JOIN, 1),
        (FilterMode.INCLUDE, Action.JOIN, 3),
        (FilterMode.INCLUDE, Action.LEAVE, 1),
        (FilterMode.INCLUDE, Action.LEAVE, 0),
        (FilterMode.EXCLUDE, Action.LEAVE, 0),
        (FilterMode.EXCLUDE, Action.BLOCK, 3),
        (FilterMode.EXCLUDE, Action.UNBLOCK, 1),
    ],
)
def test_exception_of_a_signal_handler_leaves_table_and_kernel_alike(
    sock: socket.socket,
    lo: Interface,
    family: int,
    monkeypatch: pytest.MonkeyPatch,
    before: FilterMode | None,
    action: Action,
    sources: int,
    error: type[BaseException],
    is_made: bool,
) -> None:
    group, known = GROUPS[family][1], SOURCES[family]
    memberships = Memberships(sock)
    if before is FilterMode.INCLUDE:
        memberships.join(group, known[:2], [lo])
    elif before:
        memberships.join(group, (), [lo])
        memberships.block(group, known[:2])

    def interrupted(*request: Any) -> None:
        monkeypatch.setattr("mcastfast.membership.request_membership", request_membership)
        if is_made:
            request_membership(*request)
        raise error

    monkeypatch.setattr("mcastfast.membership.request_membership", interrupted)
    with pytest.raises(error):
        getattr(memberships, action)(group, known[sources - 1 : sources], [lo])
    assert kernel_view((group,)) == expected_view(memberships.memberships)
    if memberships.memberships:
        memberships.leave(group)
    memberships.join(group, (), [lo])
    memberships.leave(group)


def test_sources_that_others_joined_by_the_socket_stay_with_it(sock: socket.socket, lo: Interface, family: int) -> None:
    group, (theirs, ours, _) = GROUPS[family][1], SOURCES[family]
    set_option(sock, INDEPENDENT_REQUESTS[Action.JOIN, True], MembershipRequest(group, theirs, lo))
    memberships = Memberships(sock, is_ours=False)
    memberships.join(group, [ours], [lo])
    memberships.leave(group, [ours], [lo])
    assert memberships.memberships == ()
    assert kernel_view((group,)) == {(group, lo.index, frozenset({theirs}), frozenset())}


def test_closed_socket_is_an_error_that_names_the_call(sock: socket.socket, lo: Interface, family: int) -> None:
    sock.close()
    memberships = Memberships(sock)
    with pytest.raises(OSError, match=f"join {GROUPS[family][0]} on lo: Bad file descriptor") as caught:
        memberships.join(GROUPS[family][0], (), [lo])
    assert caught.value.errno == errno.EBADF
    assert memberships.memberships == ()


def test_calls_from_many_threads_leave_table_and_kernel_alike(sock: socket.socket, lo: Interface, family: int) -> None:
    memberships = Memberships(sock)
    base = ip_address("239.7.0.0" if family == IPV4 else "ff15::700")
    start = threading.Barrier(4)
    unexpected: list[BaseException] = []

    def churn(number: int) -> None:
        try:
            start.wait(10)
            for turn in range(60):
                memberships.join(base + number, (), [lo])
                memberships.block(base + number, SOURCES[family])
                if turn < 59:
                    memberships.leave(base + number)
        except BaseException as error:
            unexpected.append(error)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert unexpected == []
    assert len(memberships.memberships) == 4
    assert kernel_view(tuple(base + number for number in range(4))) == expected_view(memberships.memberships)


def test_membership_ends_with_the_socket(lo: Interface, family: int) -> None:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    memberships = Memberships(sock)
    memberships.join(GROUPS[family][0], (), [lo])
    copy = os.dup(sock.fileno())
    sock.close()
    assert kernel_view(GROUPS[family]) == expected_view(memberships.memberships)
    os.close(copy)
    assert kernel_view(GROUPS[family]) == set()
