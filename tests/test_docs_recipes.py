"""Recipes of the guide that are more than calls: they are run as they are printed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import select
import time
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from netlab import wait_until
from receivelab import TIMEOUT, V4, Worker, at, is_joined

from mcastfast import Receiver, ReceiverSet, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab import Link

pytestmark = pytest.mark.needs("namespaces")

GUIDE = (Path(__file__).parent.parent / "docs" / "guide.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def _tracker() -> None:
    """The process that shared_memory starts at first use stays, and its pipe with it."""
    resource_tracker.ensure_running()


def recipe(heading: str, number: int = 0) -> str:
    """An example below a heading, the first unless told."""
    section = GUIDE.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
    examples: list[str] = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return examples[number]


receivers = pytest.mark.parametrize(
    "options", [{}, {"coalesce": True, "batch_size": 3}, {"background": "8 MiB"}], ids=str
)


@receivers
def test_an_event_loop_gets_every_datagram_and_can_be_cancelled(loopback: Link, options: dict[str, Any]) -> None:
    """With batches that are smaller than a train most of it waits in the receiver."""
    names: dict[str, Any] = {}
    exec(recipe("Event loops"), names)
    payloads = [bytes([number]) * 50 for number in range(100)]

    async def run() -> list[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(10)
        task = asyncio.create_task(names["receive"](receiver, queue))
        await asyncio.sleep(0)
        sender.send_batch(payloads)
        async with asyncio.timeout(TIMEOUT):
            got = [await queue.get() for _ in payloads]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not asyncio.get_running_loop().remove_reader(receiver.fileno())
        return got

    with Receiver(at(V4.group, loopback), **options) as receiver, Sender(at(V4.group, loopback)) as sender:
        assert asyncio.run(run()) == payloads


def test_an_event_loop_waits_for_one_batch_so_long(loopback: Link) -> None:
    names: dict[str, Any] = {}
    exec(recipe("Event loops", 1).replace("timeout(1.0)", "timeout(0.01)"), names)
    with Receiver(at(V4.group, loopback)) as receiver, Sender(at(V4.group, loopback)) as sender:
        with pytest.raises(TimeoutError):
            asyncio.run(names["receive_one"](receiver))
        sender.send(b"payload")
        assert asyncio.run(names["receive_one"](receiver)).payloads() == [b"payload"]


def test_the_program_around_an_event_loop_ends_its_task(loopback: Link, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(recipe("Event loops"), names)
    payloads = [b"%d" % number for number in range(100)]

    async def run() -> None:
        async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as tasks:
            program = tasks.create_task(names["main"]())
            await asyncio.to_thread(wait_until, lambda: is_joined(loopback, V4.group), TIMEOUT)
            sender.send_batch(payloads)
            await program
            assert len(asyncio.all_tasks()) == 1

    with Sender(at(V4.group, loopback)) as sender:
        asyncio.run(run())
    assert capsys.readouterr().out.splitlines() == list(map(repr, payloads))


class Queue(asyncio.Queue[bytes]):
    """One that tells when somebody waits for room in it."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.is_waited_for = asyncio.Event()

    async def put(self, item: bytes) -> None:
        if self.full():
            self.is_waited_for.set()
        await super().put(item)


@receivers
def test_an_event_loop_is_not_called_while_its_queue_is_full(
    loopback: Link, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would never sleep: what nobody receives keeps the descriptor readable."""
    names: dict[str, Any] = {}
    exec(recipe("Event loops"), names)
    payloads = [bytes([number]) * 50 for number in range(100)]

    async def run() -> None:
        calls = 0
        loop = asyncio.get_running_loop()
        add_reader = loop.add_reader

        def add_counting_reader(descriptor: int, callback: Callable[[], None]) -> None:
            def call() -> None:
                nonlocal calls
                calls += 1
                callback()

            add_reader(descriptor, call)

        monkeypatch.setattr(loop, "add_reader", add_counting_reader)
        queue = Queue(10)
        task = asyncio.create_task(names["receive"](receiver, queue))
        async with asyncio.timeout(TIMEOUT):
            sender.send_batch(payloads)
            await queue.is_waited_for.wait()
            sender.send_batch(payloads)
            assert select.select([receiver], [], [], TIMEOUT)[0]
            before = calls
            for _ in range(100):  # turns of the loop
                await asyncio.sleep(0)
            assert calls == before
            assert [await queue.get() for _ in payloads * 2] == payloads * 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Receiver(at(V4.group, loopback), **options) as receiver, Sender(at(V4.group, loopback)) as sender:
        asyncio.run(run())


def test_an_event_loop_keeps_the_rate_of_a_sender(loopback: Link) -> None:
    names: dict[str, Any] = {}
    exec(recipe("Event loops", 2), names)
    with Sender(at(V4.group, loopback), rate=5000) as sender:
        start = time.perf_counter()
        asyncio.run(names["send_paced"](sender, [b"payload"] * 1000))
        assert time.perf_counter() - start > 0.19
        assert sender.stats.datagrams == 1000


TWO_FEEDS = recipe("Two feeds of the same data").replace('"eth0"', '"lo"').replace('"eth1"', '"lo"')


def numbered(*numbers: int) -> list[bytes]:
    return [number.to_bytes(8, "big") for number in numbers]


class Feeds:
    """Senders of the two feeds, and what the recipe makes of them when one may be so many seconds behind."""

    def __init__(self, wait: float) -> None:
        self.busy = 0.0
        names: dict[str, Any] = {}
        exec(TWO_FEEDS.partition("\nwith ")[0], names)
        names["WAIT"] = wait
        names["time"] = self
        with contextlib.ExitStack() as stack:
            receivers = [stack.enter_context(Receiver(f"239.{n}.1.1%lo:500{n}")) for n in (1, 2)]
            self.a, self.b = (stack.enter_context(Sender(f"239.{n}.1.1%lo:500{n}")) for n in (1, 2))
            self._merged = names["merge"](stack.enter_context(ReceiverSet(receivers)))
            self._stack = stack.pop_all()

    def monotonic(self) -> float:
        """For the recipe: the time, and how long the program was busy."""
        return time.monotonic() + self.busy

    def take(self, count: int) -> list[bytes]:
        return list(islice(self._merged, count))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def test_what_one_of_two_feeds_lost_the_other_brings_later_in_order(
    loopback: Link, capsys: pytest.CaptureFixture[str]
) -> None:
    with Feeds(TIMEOUT) as feeds:
        feeds.a.send_batch(numbered(*range(10), *range(20, 30)))
        assert feeds.take(10) == numbered(*range(10))
        feeds.b.send_batch(numbered(*range(15)))
        assert feeds.take(5) == numbered(*range(10, 15))
        feeds.b.send_batch(numbered(*range(15, 31)))
        assert feeds.take(16) == numbered(*range(15, 31))
        feeds.a.send_batch(numbered(30, 31))
        assert feeds.take(1) == numbered(31)
    assert capsys.readouterr().out == ""


def test_what_two_feeds_have_lost_both_is_told_once(loopback: Link, capsys: pytest.CaptureFixture[str]) -> None:
    with Feeds(0.02) as feeds:
        feeds.a.send_batch(numbered(0, 1, 3, 7))
        feeds.b.send_batch(numbered(0, 1, 3, 5))
        start = time.monotonic()
        assert feeds.take(2) == numbered(0, 1)
        assert feeds.take(3) == numbered(3, 5, 7)
        assert time.monotonic() - start >= 0.02
        feeds.b.send_batch(numbered(2, 7, 8))
        assert feeds.take(1) == numbered(8)
    assert capsys.readouterr().out.splitlines() == [f"lost: 1 from {number}" for number in (2, 4, 6)]


def test_a_gap_of_two_feeds_is_given_up_while_batches_keep_coming(
    loopback: Link, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is waited for anew."""
    with Feeds(0.05) as feeds:
        feeds.a.send_batch(numbered(0, 2))
        assert feeds.take(1) == numbered(0)
        taking = Worker(feeds.take, 1)
        number = 3
        while taking.is_alive():
            feeds.a.send_batch(numbered(number))
            number += 1
            assert number < 500
            taking.join(0.01)
        assert taking.result() == numbered(2)
    assert capsys.readouterr().out == "lost: 1 from 1\n"


def test_what_two_feeds_bring_while_the_program_is_busy_is_not_lost(
    loopback: Link, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though of the feed that has the gap there is more to be read before."""
    with Feeds(TIMEOUT) as feeds:
        feeds.a.send_batch(numbered(0, 2))
        assert feeds.take(1) == numbered(0)
        feeds.a.send_batch(numbered(3))
        feeds.b.send_batch(numbered(1))
        feeds.busy += 2 * TIMEOUT
        assert feeds.take(3) == numbered(1, 2, 3)
    assert capsys.readouterr().out == ""


def test_two_feeds_may_begin_anew_while_one_is_behind(loopback: Link, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    running = Worker(exec, TWO_FEEDS, names, namespace=loopback.namespace)
    wait_until(lambda: "feeds" in names, TIMEOUT)
    with Sender("239.1.1.1%lo:5000") as first, Sender("239.2.1.1%lo:5001") as second:
        numbers = (50_000, 50_001, 50_003, 0, 1, 3)
        second.send_batch(numbered(*numbers[:2]))
        wait_until(lambda: names["feed_b"].stats.datagrams == 2, TIMEOUT)
        first.send_batch(numbered(*numbers))
        wait_until(lambda: names["feed_a"].stats.datagrams == len(numbers), TIMEOUT)
        second.send_batch(numbered(50_002, *numbers[2:], 50_004))
        seen = ""

        def has_come_to_its_end() -> bool:
            nonlocal seen
            seen += capsys.readouterr().out
            return repr(numbered(3)[0]) in seen

        wait_until(has_come_to_its_end, TIMEOUT)
    names["feeds"].close()
    with pytest.raises(OSError, match="closed") as raised:
        running.result()
    assert raised.value.errno == errno.EBADF
    payloads = list(map(repr, numbered(*numbers)))
    lost = ["lost: 1 from 50002", "lost: 1 from 2"]
    assert (seen + capsys.readouterr().out).splitlines() == [
        *payloads[:2],
        lost[0],
        *payloads[2:5],
        lost[1],
        payloads[5],
    ]


def test_who_asks_a_group_gets_replies(loopback: Link, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    answering = Worker(exec, recipe("Requests and replies", 1), names, namespace=loopback.namespace)
    wait_until(lambda: "answers" in names, TIMEOUT)
    exec(recipe("Requests and replies"), {})
    host, port = names["answers"].getsockname()
    names["receiver"].close()
    answering.result()
    assert (host, capsys.readouterr().out) == ("0.0.0.0", f"('127.0.0.1', {port}) b'a printer'\n")


def test_datagrams_of_many_groups_are_told_apart(loopback: Link, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    running = Worker(exec, recipe("Many groups, many ports", 1), names, namespace=loopback.namespace)
    wait_until(lambda: "receiver" in names, TIMEOUT)
    for group in (V4.other, V4.group):
        with Sender(at(group, loopback)) as sender:
            sender.send(group.encode())
    wait_until(lambda: names["receiver"].stats.datagrams == 2, TIMEOUT)
    names["receiver"].close()
    running.result()
    assert capsys.readouterr().out == "quotes b'239.1.2.4'\ntrades b'239.1.2.3'\n"


def test_shared_memory_is_filled_and_given_back(loopback: Link, capsys: pytest.CaptureFixture[str]) -> None:
    with Sender(at(V4.group, loopback)) as sender:
        sending = Worker(send_when_joined, sender, loopback)
        exec(recipe("Several processes"), {})
        sending.result()
    assert capsys.readouterr().out == "1 [0] [7]\n"


def send_when_joined(sender: Sender, loopback: Link) -> None:
    wait_until(lambda: is_joined(loopback, V4.group), TIMEOUT)
    sender.send(b"payload")
