"""Python code that runs in the middle of a call, in a signal handler or another thread, may use the same receiver."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from receivelab import TIMEOUT, V4, at, receive, sources

from mcastfast import Receiver, membership, requests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from netlab import Link

    ByHandler = Callable[[Callable[[], object]], Callable[[], None]]


class Interrupted(Receiver):
    """A receiver in whose calls something else happens once, at the worst moment."""

    interruption: Callable[[], object] | None = None

    def interrupt(self) -> None:
        call, self.interruption = self.interruption, None
        if call is not None:
            call()

    def _read_drops(self) -> int:
        drops = super()._read_drops()
        self.interrupt()
        return drops

    def _set_filter(self, entries: Collection[tuple[bytes, int]]) -> None:
        self.interrupt()
        super()._set_filter(entries)


@pytest.fixture
def receiver(loopback: Link, engine: str) -> Iterator[Interrupted]:
    with Interrupted(at(V4.group, loopback), bind="any", engine=engine) as opened:
        yield opened


@pytest.fixture
def raises_signal() -> Iterator[ByHandler]:
    """Make a call one that a signal handler makes."""
    calls: list[Callable[[], object]] = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: calls.pop()())

    def by_handler(call: Callable[[], object]) -> Callable[[], None]:
        calls.append(call)
        return lambda: signal.raise_signal(signal.SIGUSR1)

    yield by_handler
    signal.signal(signal.SIGUSR1, previous)


def test_a_handler_may_read_stats_while_stats_are_read(receiver: Interrupted, raises_signal: ByHandler) -> None:
    seen: list[int] = []
    receiver.interruption = raises_signal(lambda: seen.append(receiver.stats.kernel_drops))
    assert receiver.stats.kernel_drops == 0
    assert seen == [0]


def test_a_handler_may_close_while_stats_are_read(receiver: Interrupted, raises_signal: ByHandler) -> None:
    receiver.interruption = raises_signal(receiver.close)
    assert receiver.stats.kernel_drops == 0
    assert receiver.closed


def test_a_handler_may_close_while_close_is_under_way(receiver: Interrupted, raises_signal: ByHandler) -> None:
    """The second SIGTERM of an impatient user."""
    receiver.interruption = raises_signal(receiver.close)
    receiver.close()
    assert receiver.closed


def test_drops_that_a_handler_has_counted_are_not_counted_twice(loopback: Link, raises_signal: ByHandler) -> None:
    class Counting(Interrupted):
        counter = 0

        def _read_drops(self) -> int:
            now = self.counter
            self.interrupt()
            return now

    with Counting(at(V4.group, loopback)) as receiver:

        def look_later() -> None:
            receiver.counter = 15
            assert receiver.stats.kernel_drops == 15

        receiver.counter = 10
        receiver.interruption = raises_signal(look_later)
        assert receiver.stats.kernel_drops == 15


def test_a_handler_may_print_and_change_a_receiver_that_joins(
    receiver: Interrupted, loopback: Link, raises_signal: ByHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def look_and_join() -> None:
        seen.append(str(receiver))
        receiver.join(at(V4.pattern % 1, loopback))

    by_handler = raises_signal(look_and_join)
    request = requests.request_membership

    def interrupted(*arguments: object) -> None:
        monkeypatch.setattr(membership, "request_membership", request)
        by_handler()
        request(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(membership, "request_membership", interrupted)
    receiver.join(at(V4.other, loopback))
    assert seen == ["239.1.2.3%lo port 5000"]
    assert {str(joined.group) for joined in receiver.memberships} == {V4.group, V4.other, V4.pattern % 1}
    with sources(loopback) as (source,):
        for group in (V4.group, V4.other, V4.pattern % 1):
            source.send(group, group.encode())
        assert receive(receiver, 3) == [group.encode() for group in (V4.group, V4.other, V4.pattern % 1)]


def test_a_join_in_the_middle_of_a_leave_is_heard(receiver: Interrupted, loopback: Link) -> None:
    """Another thread joins between what a leave reads and the filter that it sets."""
    receiver.join(at(V4.other, loopback))
    receiver.interruption = lambda: receiver.join(at(V4.pattern % 1, loopback))
    receiver.leave(V4.other)
    with sources(loopback) as (source,):
        source.send(V4.pattern % 1, b"joined meanwhile")
        assert receiver.recv_batch(TIMEOUT).payloads() == [b"joined meanwhile"]
