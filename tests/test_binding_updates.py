"""Joins and leaves while another thread is blocked in a receive, and foreign traffic that does not end."""

from __future__ import annotations

import os
import threading
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from receivelab import (
    FAMILIES,
    PORT,
    TIMEOUT,
    V4,
    Family,
    Source,
    Worker,
    at,
    family_name,
    handler,
    receive_until,
    sources,
)

from mcastfast import Receiver, ReceiverSet, _core
from mcastfast.membership import Memberships

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from netlab import Lan, Link

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.needs("ipv6")]

families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)


ENGINES_AND_PACKET = ["socket", pytest.param("packet", marks=pytest.mark.needs("packet_socket"))]


@pytest.fixture
def source(lan: Lan) -> Iterator[Source]:
    with sources(lan.sender) as (opened,):
        yield opened


@pytest.mark.parametrize("bind", ["any", "auto"])
def test_a_receiver_of_many_groups_looks_at_interfaces_and_makes_its_filter_once(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, bind: str
) -> None:
    looks = []

    class Counting(Receiver):
        filters: ClassVar[list[int]] = []

        def _set_filter(self, entries: Collection[tuple[bytes, int]]) -> None:
            self.filters.append(len(entries))
            super()._set_filter(entries)

    def look(of: Callable[[], Any] = _core.interface_rows) -> Any:
        looks.append(1)
        return of()

    monkeypatch.setattr(_core, "interface_rows", look)
    groups = [V4.pattern % number for number in range(1, 16)]
    with Counting(*groups, port=PORT, interface=loopback.name, bind=bind) as receiver:
        assert len(receiver.memberships) == 15
    assert Counting.filters == [15, 15]
    assert len(looks) == 1


def test_an_index_of_a_type_without_a_hash_names_the_interface_of_further_joins(loopback: Link) -> None:
    index = np.array(loopback.index)
    with Receiver(V4.pattern % 1, V4.pattern % 2, port=PORT, interface=index, bind="any") as receiver:
        receiver.join(V4.pattern % 3)
        assert [member.interface.name for member in receiver.memberships] == [loopback.name] * 3


def test_a_text_names_some_of_many_groups(loopback: Link) -> None:
    groups = [V4.pattern % number for number in range(1, 11)]
    with Receiver(*groups, port=PORT, interface=loopback.name) as receiver:
        shown = ", ".join(f"{group}%{loopback.name}" for group in groups[:8])
        assert str(receiver) == f"{shown} and 2 more port {PORT}"
        receiver.leave(groups[9])
        receiver.leave(groups[8])
        assert str(receiver) == f"{shown} port {PORT}"


@families
def test_a_blocked_receive_gets_what_is_joined_meanwhile(
    family: Family, engine: str, link: Link, source: Source
) -> None:
    with Receiver(at(family.group, link), bind="any", engine=engine) as receiver:
        blocked = Worker(receiver.recv_batch, TIMEOUT)
        blocked.wait_until_blocked()
        receiver.join(at(family.other, link))
        source.send(family.other, b"joined meanwhile")
        assert blocked.result().payloads() == [b"joined meanwhile"]


@families
def test_a_blocked_receive_does_not_get_what_is_left_meanwhile(
    family: Family, engine: str, link: Link, source: Source
) -> None:
    with Receiver(at(family.group, link), at(family.other, link), engine=engine) as receiver:
        blocked = Worker(receive_until, receiver, b"last")
        blocked.wait_until_blocked()
        receiver.leave(family.other)
        source.send(family.other, b"left meanwhile")
        source.send(family.group, b"last")
        assert blocked.result() == []


@pytest.mark.needs("forced_buffer")
@families
def test_joins_and_leaves_under_traffic_lose_nothing_of_what_stays(
    family: Family, engine: str, link: Link, source: Source
) -> None:
    count = 2000
    with Receiver(at(family.group, link), bind="any", engine=engine, receive_buffer=4_000_000) as receiver:
        reader = Worker(receive_until, receiver, b"last")
        for number in range(count):
            if number % 20 == 0:
                changed = family.pattern % (number // 20 + 1)
                receiver.join(at(changed, link))
                source.send(changed, b"changed")
                receiver.leave(changed)
            source.send(family.group, b"%d" % number)
        source.send(family.group, b"last")
        received = [payload for payload in reader.result() if payload != b"changed"]
        assert received == [b"%d" % number for number in range(count)]
        assert [str(joined.group) for joined in receiver.memberships] == [family.group]


@pytest.mark.parametrize("chosen", ENGINES_AND_PACKET)
@families
def test_a_leave_of_another_thread_closes_no_door_that_a_join_has_opened(
    family: Family, chosen: str, link: Link, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a join lets in may come before the join has returned."""
    left, joined = (family.pattern % number for number in (1, 2))
    with Receiver(at(family.group, link), at(left, link), bind="any", engine=chosen) as receiver:
        join = Memberships.join

        def join_beside_a_leave(self: Memberships, *args: Any, **options: Any) -> None:
            receiver.leave(left)
            join(self, *args, **options)
            source.send(joined, b"early")
            assert receiver.recv_batch(TIMEOUT).payloads() == [b"early"]

        monkeypatch.setattr(Memberships, "join", join_beside_a_leave)
        receiver.join(at(joined, link))
        source.send(left, b"left")
        source.send(joined, b"joined")
        assert receiver.recv_batch(TIMEOUT).payloads() == [b"joined"]


FLOOD = 20_000


@pytest.fixture
def flooded(engine: str, link: Link) -> Iterator[Receiver]:
    """A receiver in whose socket lie very many datagrams, all of them foreign by now."""
    with (
        Receiver(
            at(V4.group, link),
            at(V4.other, link),
            engine=engine,
            batch_size=1,
            receive_buffer=FLOOD * 1024,
        ) as receiver,
        sources(link) as (local,),
    ):
        local.send(V4.group, *[b"foreign"] * FLOOD)
        receiver.leave(V4.group)
        yield receiver
        assert receiver.stats.kernel_drops == 0


@pytest.mark.needs("forced_buffer")
def test_foreign_traffic_does_not_put_a_deadline_off(flooded: Receiver) -> None:
    with pytest.raises(TimeoutError):
        flooded.recv_batch(timeout=1e-6)
    assert flooded.stats.foreign < FLOOD


@pytest.mark.needs("forced_buffer")
def test_foreign_traffic_does_not_put_a_deadline_of_a_set_off(flooded: Receiver) -> None:
    with ReceiverSet([flooded]) as receivers:
        with pytest.raises(TimeoutError):
            receivers.recv_batch(timeout=1e-6)
        assert flooded.stats.foreign < FLOOD


@pytest.mark.needs("forced_buffer")
@pytest.mark.parametrize("grouped", [False, True], ids=["receiver", "set"])
def test_foreign_traffic_does_not_keep_a_signal_waiting(flooded: Receiver, grouped: bool) -> None:
    def interrupt() -> None:
        raise InterruptedError("by the test")

    with (
        ReceiverSet([flooded]) as receivers,
        handler(interrupt, when=lambda: flooded.stats.foreign),
        pytest.raises(InterruptedError, match="by the test"),
    ):
        (receivers if grouped else flooded).recv_batch(timeout=TIMEOUT)
    assert flooded.stats.foreign < FLOOD


@pytest.mark.needs("forced_buffer")
def test_no_waiting_means_a_bounded_look_at_foreign_traffic(flooded: Receiver) -> None:
    with pytest.raises(BlockingIOError):
        flooded.recv_batch(timeout=0)
    assert 0 < flooded.stats.foreign < FLOOD


def test_joins_in_two_threads_do_not_take_each_others_place(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ends while the second compares what is about to be joined: in Python code, where the GIL may go."""
    join, equal = Memberships.join, IPv4Address.__eq__
    first_is_about_to, first_may, first_is_done = threading.Event(), threading.Event(), threading.Event()
    second_has_joined = False

    def joining(table: Memberships, group: IPv4Address, *arguments: Any, **options: Any) -> None:
        nonlocal second_has_joined
        if str(group) == V4.other:
            first_is_about_to.set()
            assert first_may.wait(TIMEOUT)
        join(table, group, *arguments, **options)
        second_has_joined = str(group) != V4.other

    def comparing(one: IPv4Address, other: object) -> bool:
        if second_has_joined and threading.current_thread() is threading.main_thread():
            first_may.set()
            assert first_is_done.wait(TIMEOUT)
        return equal(one, other)

    def join_first(receiver: Receiver) -> None:
        receiver.join(V4.other)
        first_is_done.set()

    with Receiver(at(V4.group, link), bind="any") as receiver:
        monkeypatch.setattr(Memberships, "join", joining)
        first = Worker(join_first, receiver)
        assert first_is_about_to.wait(TIMEOUT)
        monkeypatch.setattr(IPv4Address, "__eq__", comparing)
        receiver.join(V4.pattern % 9)
        first_may.set()
        first.result()
        assert not receiver._pending


def test_a_child_forked_during_a_join_waits_for_none(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    join = Memberships.join
    is_about_to, may = threading.Event(), threading.Event()

    def joining(*arguments: Any, **options: Any) -> None:
        is_about_to.set()
        assert may.wait(TIMEOUT)
        join(*arguments, **options)

    with Receiver(at(V4.group, link), bind="any") as receiver:
        monkeypatch.setattr(Memberships, "join", joining)
        joins = Worker(receiver.join, V4.other)
        assert is_about_to.wait(TIMEOUT)
        pid = os.fork()
        if pid == 0:
            os._exit(len(receiver._pending))
        may.set()
        joins.result()
        assert os.waitpid(pid, 0) == (pid, 0)
