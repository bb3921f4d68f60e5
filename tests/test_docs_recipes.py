"""Recipes of the guide that are more than calls: they are run as they are printed."""

from __future__ import annotations

import asyncio
import re
import select
import time
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from netlab import wait_until
from receivelab import TIMEOUT, V4, Worker, at, is_joined

from mcastfast import Receiver, Sender

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


@receivers
def test_a_task_of_an_event_loop_can_be_cancelled_after_the_receiver_was_closed(
    loopback: Link, options: dict[str, Any]
) -> None:
    """Which does not wake it; nor does the descriptor stay with the loop, where another socket may be given it."""
    names: dict[str, Any] = {}
    exec(recipe("Event loops"), names)

    async def run() -> None:
        task = asyncio.create_task(names["receive"](receiver, asyncio.Queue()))
        await asyncio.sleep(0)
        descriptor = receiver.fileno()
        receiver.close()
        for _ in range(100):  # turns of the loop
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not asyncio.get_running_loop().remove_reader(descriptor)

    with Receiver(at(V4.group, loopback), **options) as receiver:
        asyncio.run(run())


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
    """Whose waits are shorter than what a sleep of the loop takes too long."""
    names: dict[str, Any] = {}
    exec(recipe("Event loops", 1), names)
    with Sender(at(V4.group, loopback), rate=5000) as sender:
        start = time.perf_counter()
        asyncio.run(names["send_paced"](sender, [b"payload"] * 1000))
        assert 0.19 < time.perf_counter() - start < 0.5
        assert sender.stats.datagrams == 1000


def test_two_feeds_make_one_and_tell_of_gaps(loopback: Link, capsys: pytest.CaptureFixture[str]) -> None:
    """From the middle of the numbering, and when it starts anew while one feed is behind."""
    text = recipe("Two feeds of the same data").replace('"eth0"', '"lo"').replace('"eth1"', '"lo"')
    opening, _, loop = text.partition("\nwith ")
    names: dict[str, Any] = {}
    exec(opening, names)
    numbers = (5000, 5001, 5003, 0, 1, 3)
    with Sender("239.1.1.1%lo:5000") as first, Sender("239.2.1.1%lo:5001") as second:
        for sender in (first, second):
            sender.send_batch([number.to_bytes(8, "big") for number in numbers])

    def close_when_all_is_taken() -> None:
        feeds = (names["feed_a"], names["feed_b"])
        wait_until(lambda: sum(feed.stats.datagrams for feed in feeds) == 2 * len(numbers), TIMEOUT)
        for feed in feeds:
            feed.close()

    closer = Worker(close_when_all_is_taken)
    exec(f"with {loop}", names)
    closer.result()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line[0] == "b"] == [repr(number.to_bytes(8, "big")) for number in numbers]
    feed = "239.1.1.1%lo port 5000"
    assert [line for line in lines if line[0] != "b"] == [
        f"{text} on {feed}" for text in ("starts at 5000", "gap of 1 seen", "starts at 0", "gap of 1 seen")
    ]


def test_shared_memory_is_filled_and_given_back(loopback: Link, capsys: pytest.CaptureFixture[str]) -> None:
    with Sender(at(V4.group, loopback)) as sender:
        sending = Worker(send_when_joined, sender, loopback)
        exec(recipe("Several processes"), {})
        sending.result()
    assert capsys.readouterr().out == "1 [0] [7]\n"


def send_when_joined(sender: Sender, loopback: Link) -> None:
    wait_until(lambda: is_joined(loopback, V4.group), TIMEOUT)
    sender.send(b"payload")
