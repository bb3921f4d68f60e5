"""Calls that make several steps: all or nothing, refusals skipped where that is asked for, arguments checked first.

The socket is a stand-in that logs requests and refuses those it is told to; what the kernel does is tested beside.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from ipaddress import IPv4Address, IPv4Interface, IPv6Address

import pytest

from mcastfast.errors import Platform
from mcastfast.interface import Interface
from mcastfast.membership import FilterMode, Membership, Memberships
from mcastfast.requests import INDEPENDENT_REQUESTS

ETH = [Interface(f"eth{index}", index, (IPv4Interface(f"10.0.{index}.1/24"),)) for index in range(6)]
G, H = IPv4Address("239.1.2.3"), IPv4Address("239.9.9.9")
A, B = IPv4Address("10.0.0.7"), IPv4Address("10.0.0.8")

NAMES = {
    option.place(socket.AF_INET).number: f"{action}{' source' if source else ''}"
    for (action, source), option in INDEPENDENT_REQUESTS.items()
}


class Recorder:
    """Logs (request, interface index) and raises what `refusals` says for it."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []
        self.refusals: dict[tuple[str, int], int] = {}

    def setsockopt(self, _level: int, number: int, value: bytes, /) -> None:
        request = NAMES[number], int.from_bytes(value[:4], "little")
        self.log.append(request)
        if code := self.refusals.get(request):
            raise OSError(code, os.strerror(code))

    def getsockopt(self, _level: int, _number: int, _size: int, /) -> bytes:
        raise AssertionError("memberships are not read from the socket")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def table(recorder: Recorder) -> Memberships:
    return Memberships(recorder)


def joined(*rows: tuple[int, FilterMode, tuple[IPv4Address, ...]]) -> tuple[Membership, ...]:
    return tuple(Membership(G, ETH[index], mode, sources) for index, mode, sources in rows)


def test_join_makes_a_step_for_each_interface_and_source(recorder: Recorder, table: Memberships) -> None:
    table.join(G, [A, B], ETH[1:3])
    assert recorder.log == [("join source", 1)] * 2 + [("join source", 2)] * 2
    assert table.memberships == joined((1, FilterMode.INCLUDE, (A, B)), (2, FilterMode.INCLUDE, (A, B)))


def test_third_refusal_takes_the_first_two_joins_back(recorder: Recorder, table: Memberships) -> None:
    recorder.refusals["join", 3] = errno.ENOBUFS
    with pytest.raises(OSError, match=r"join 239\.1\.2\.3 on eth3: ") as caught:
        table.join(G, (), ETH[1:6])
    assert caught.value.errno == errno.ENOBUFS
    assert recorder.log == [("join", 1), ("join", 2), ("join", 3), ("leave", 2), ("leave", 1)]
    assert table.memberships == ()
    assert "igmp_max_memberships" in caught.value.__notes__[0]
    assert caught.value.__notes__[1:] == [
        "join 239.1.2.3 on eth1 and 1 more were made before and are taken back.",
    ]


def test_refused_leave_brings_joins_and_blocks_back(recorder: Recorder, table: Memberships) -> None:
    table.join(G, (), ETH[1:3])
    table.block(G, [A, B])
    before = table.memberships
    recorder.log.clear()
    recorder.refusals["leave", 2] = errno.ENOMEM
    with pytest.raises(OSError, match=r"leave 239.1.2.3 on eth2: ") as caught:
        table.leave(G)
    assert caught.value.errno == errno.ENOMEM
    assert recorder.log == [("leave", 1), ("leave", 2), ("join", 1), ("block source", 1), ("block source", 1)]
    assert sorted(table.memberships, key=str) == sorted(before, key=str)


def test_refused_block_unblocks_what_was_blocked_before(recorder: Recorder, table: Memberships) -> None:
    table.join(G, (), ETH[1:3])
    recorder.refusals["block source", 2] = errno.ENOBUFS
    with pytest.raises(OSError, match=r"block 239.1.2.3 from 10.0.0.7 on eth2: "):
        table.block(G, [A])
    assert recorder.log[-1] == ("unblock source", 1)
    assert all(membership.sources == () for membership in table.memberships)


def test_what_cannot_be_taken_back_is_said_and_still_listed(recorder: Recorder, table: Memberships) -> None:
    recorder.refusals = {("join", 2): errno.ENOBUFS, ("leave", 1): errno.ENOMEM}
    with pytest.raises(OSError, match="on eth2") as caught:
        table.join(G, (), ETH[1:3])
    assert any(
        "could not be taken back" in note and "leave 239.1.2.3 on eth1" in note for note in caught.value.__notes__
    )
    assert table.memberships == joined((1, FilterMode.EXCLUDE, ()))


def test_illegal_step_of_many_is_refused_before_the_system_is_asked(recorder: Recorder, table: Memberships) -> None:
    table.join(G, (), [ETH[3]])
    recorder.log.clear()
    with pytest.raises(OSError, match=r"join 239.1.2.3 on eth3: already joined") as caught:
        table.join(G, (), ETH[1:5])
    assert caught.value.errno == errno.EADDRINUSE
    assert recorder.log == []


def test_source_given_twice_is_refused_before_the_system_is_asked(recorder: Recorder, table: Memberships) -> None:
    with pytest.raises(OSError, match="already joined"):
        table.join(G, [A, A], [ETH[1]])
    assert recorder.log == []


def test_interfaces_that_refuse_are_skipped_and_listed(recorder: Recorder, table: Memberships) -> None:
    recorder.refusals["join", 2] = errno.EADDRNOTAVAIL
    table.join(G, (), ETH[1:4], skip_refusals=True)
    assert [membership.interface for membership in table.memberships] == [ETH[1], ETH[3]]
    [refusal] = table.skipped
    assert (refusal.group, refusal.interface, refusal.error.errno) == (G, ETH[2], errno.EADDRNOTAVAIL)


def test_interface_that_refuses_its_second_source_keeps_none(recorder: Recorder, table: Memberships) -> None:
    class SecondRefused(Recorder):
        def setsockopt(self, level: int, number: int, value: bytes, /) -> None:
            if self.log and self.log[-1] == ("join source", 1):
                self.refusals["join source", 1] = errno.EADDRNOTAVAIL
            super().setsockopt(level, number, value)

    recorder = SecondRefused()
    table = Memberships(recorder)
    table.join(G, [A, B], ETH[1:3], skip_refusals=True)
    assert recorder.log == [("join source", 1)] * 2 + [("leave source", 1)] + [("join source", 2)] * 2
    assert table.memberships == joined((2, FilterMode.INCLUDE, (A, B)))


def test_join_on_all_interfaces_is_made_where_it_is_missing(recorder: Recorder, table: Memberships) -> None:
    table.join(G, [A], [ETH[1]])
    table.join(G, (), [ETH[2]])
    recorder.log.clear()
    recorder.refusals["join source", 3] = errno.ENODEV
    table.join(G, [A, B], ETH[1:4], skip_refusals=True)
    assert recorder.log[0] == ("join source", 1)
    assert table.memberships == joined((1, FilterMode.INCLUDE, (A, B)), (2, FilterMode.EXCLUDE, ()))
    assert [(refusal.interface, refusal.error.errno) for refusal in table.skipped] == [
        (ETH[2], errno.EADDRINUSE),
        (ETH[3], errno.ENODEV),
    ]
    table.join(G, [A], [ETH[1]], skip_refusals=True)


def test_join_of_sources_on_all_interfaces_may_be_repeated_with_more_of_them() -> None:
    """A socket of IPv6 has one list for all interfaces, which what is missing makes even."""

    class Accepting(Recorder):
        family = socket.AF_INET6

        def setsockopt(self, level: int, number: int, value: bytes, /) -> None:
            pass

    group, a, b = map(IPv6Address, ("ff3e::1", "fd00::7", "fd00::8"))
    table = Memberships(Accepting())
    table.join(group, [a], [ETH[1]])
    table.join(group, [a, b], ETH[1:3], skip_refusals=True)
    assert [(joined.interface, joined.sources) for joined in table.memberships] == [
        (ETH[1], (a, b)),
        (ETH[2], (a, b)),
    ]


def test_forgetting_where_nothing_is_joined_is_well(recorder: Recorder, table: Memberships) -> None:
    table.join(G, (), ETH[1:3])
    table.forget(G, ETH[2:4])
    assert table.memberships == joined((1, FilterMode.EXCLUDE, ()))
    assert recorder.log[-1] == ("leave", 2)


def test_join_that_every_interface_refuses_is_an_error_that_names_each(recorder: Recorder, table: Memberships) -> None:
    recorder.refusals = {("join", 1): errno.ENODEV, ("join", 2): errno.EADDRNOTAVAIL}
    with pytest.raises(OSError, match=r"join 239.1.2.3 on every interface: all refuse: .*eth1: .*; .*eth2: ") as caught:
        table.join(G, (), ETH[1:3], skip_refusals=True)
    assert caught.value.errno == errno.ENODEV
    assert "The interface is gone" in caught.value.__notes__[0]
    assert table.skipped == ()


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS])
def test_a_limit_of_the_socket_is_no_refusal_of_an_interface(recorder: Recorder, table: Memberships, code: int) -> None:
    table.join(G, (), [ETH[1]])
    recorder.refusals = {("join", 2): errno.EADDRNOTAVAIL, ("join", 4): code}
    recorder.log.clear()
    with pytest.raises(OSError, match=r"join 239\.1\.2\.3 on eth4: ") as caught:
        table.join(G, (), ETH[1:6], skip_refusals=True)
    assert caught.value.errno == code
    assert recorder.log == [("join", 2), ("join", 3), ("join", 4), ("leave", 3)]
    assert "join 239.1.2.3 on eth3 was made before and is taken back." in caught.value.__notes__
    assert table.memberships == joined((1, FilterMode.EXCLUDE, ()))
    assert table.skipped == ()


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EADDRNOTAVAIL])
def test_group_is_left_where_nothing_but_the_refused_source_was_joined(
    recorder: Recorder, is_ours: bool, code: int
) -> None:
    """What else a socket of others may have joined is theirs; without a limit the group was not joined, or before."""
    table = Memberships(recorder, is_ours=is_ours)
    recorder.refusals["join source", 1] = code
    with pytest.raises(OSError, match="on eth1"):
        table.join(G, [A, B], [ETH[1]])
    assert recorder.log == [("join source", 1)] + [("leave", 1)] * (is_ours and code == errno.ENOBUFS)
    del recorder.refusals["join source", 1]
    table.join(G, [A], [ETH[1]])
    recorder.refusals["join source", 1] = code
    recorder.log.clear()
    with pytest.raises(OSError, match="on eth1"):
        table.join(G, [B], [ETH[1]])
    assert recorder.log == [("join source", 1)]


def test_skipped_interface_is_forgotten_when_it_is_joined_or_the_group_left(
    recorder: Recorder, table: Memberships
) -> None:
    recorder.refusals = {("join", 2): errno.EADDRNOTAVAIL, ("join", 3): errno.EADDRNOTAVAIL}
    table.join(G, (), ETH[1:4], skip_refusals=True)
    assert [refusal.interface for refusal in table.skipped] == ETH[2:4]
    del recorder.refusals["join", 2]
    table.join(G, (), [ETH[2]])
    assert [refusal.interface for refusal in table.skipped] == [ETH[3]]
    table.leave(G)
    assert not table.skipped


def test_leave_without_interfaces_leaves_all_of_them(recorder: Recorder, table: Memberships) -> None:
    table.join(G, (), ETH[1:4])
    table.join(H, (), [ETH[1]])
    table.leave(G)
    assert [membership.group for membership in table.memberships] == [H]


def test_leave_without_sources_leaves_the_group_at_once(recorder: Recorder, table: Memberships) -> None:
    table.join(G, [A, B], [ETH[1]])
    recorder.log.clear()
    table.leave(G)
    assert recorder.log == [("leave", 1)]
    assert table.memberships == ()


@pytest.mark.parametrize(
    ("platform", "last"), [(Platform.MACOS, "leave"), (Platform.WINDOWS, "leave"), (Platform.LINUX, "leave source")]
)
def test_the_last_source_is_left_with_the_group(
    recorder: Recorder, table: Memberships, monkeypatch: pytest.MonkeyPatch, platform: Platform, last: str
) -> None:
    # macOS 15, in_mcast.c: a source-specific leave keeps the group, a join of it then is EINVAL, one of a source deaf.
    monkeypatch.setattr("mcastfast.membership.CURRENT", platform)
    table.join(G, [A, B], [ETH[1]])
    recorder.log.clear()
    table.leave(G, [A, B])
    assert recorder.log == [("leave source", 1), (last, 1)]
    assert table.memberships == ()


@pytest.mark.parametrize("sources", [(), (A, B)])
def test_refused_leave_brings_all_sources_back(
    recorder: Recorder, table: Memberships, sources: tuple[IPv4Address, ...]
) -> None:
    table.join(G, [A, B], ETH[1:3])
    before = table.memberships
    recorder.refusals = dict.fromkeys((("leave", 2), ("leave source", 2)), errno.ENOMEM)
    with pytest.raises(OSError, match=r"leave 239.1.2.3 .*on eth2: "):
        table.leave(G, sources)
    assert {(row.interface, row.mode, frozenset(row.sources)) for row in table.memberships} == {
        (row.interface, row.mode, frozenset(row.sources)) for row in before
    }


@pytest.mark.parametrize("call", ["leave", "block", "unblock"])
def test_group_that_is_joined_nowhere_is_an_error_that_lists_what_is(table: Memberships, call: str) -> None:
    table.join(G, (), [ETH[1]])
    with pytest.raises(OSError, match=f"{call} 239.9.9.9: joined is 239.1.2.3 from any source on eth1") as caught:
        getattr(table, call)(H, [A])
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.EINVAL])
@pytest.mark.parametrize("sources", [(), (A, B)])
def test_leaving_what_the_system_has_dropped_forgets_it(
    recorder: Recorder, table: Memberships, code: int, sources: tuple[IPv4Address, ...]
) -> None:
    table.join(G, sources, [ETH[1]])
    recorder.refusals = {("leave", 1): code, ("leave source", 1): code}
    table.leave(G)
    assert table.memberships == ()


def test_one_source_that_the_system_has_dropped_takes_no_other_with_it(recorder: Recorder, table: Memberships) -> None:
    table.join(G, [A, B], [ETH[1]])
    recorder.refusals["leave source", 1] = errno.EADDRNOTAVAIL
    table.leave(G, [A])
    assert table.memberships == joined((1, FilterMode.INCLUDE, (B,)))


def test_call_waits_for_the_one_before_and_sees_what_it_did() -> None:
    class Slow(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.entered = threading.Semaphore(0)
            self.proceed = threading.Event()

        def setsockopt(self, level: int, number: int, value: bytes, /) -> None:
            self.entered.release()
            self.proceed.wait(10)
            super().setsockopt(level, number, value)

    slow = Slow()
    table = Memberships(slow)
    outcomes: list[int] = []

    def join() -> None:
        try:
            table.join(G, (), [ETH[1]])
        except OSError as error:
            outcomes.append(error.errno or 0)
        else:
            outcomes.append(0)

    threads = [threading.Thread(target=join) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert slow.entered.acquire(timeout=10)
    both_entered = slow.entered.acquire(timeout=0.2)
    slow.proceed.set()
    for thread in threads:
        thread.join()
    assert not both_entered
    assert sorted(outcomes) == [0, errno.EADDRINUSE]
    assert slow.log == [("join", 1)]
