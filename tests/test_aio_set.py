"""`async for receiver, batch in receivers`: one task waits for a whole set, and what becomes of its members is seen."""

from __future__ import annotations

import asyncio
import errno
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from netlab import wait_until
from receivelab import script
from test_aio import run
from traffic import PATIENCE, Feed, Worker, feed, payload

from mcastfast import ReceiverSet, aio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mcastfast import Receiver

pytestmark = pytest.mark.usefixtures("watchable")

COUNT = 3


class Feeds(NamedTuple):
    """Some receivers with a sender each, and the set of the receivers."""

    feeds: list[Feed]
    receivers: ReceiverSet

    def number(self, receiver: Receiver) -> int:
        return [each.receiver for each in self.feeds].index(receiver)


@contextmanager
def feeds(**options: Any) -> Iterator[Feeds]:
    with ExitStack() as stack:
        opened = [stack.enter_context(feed(**options)) for _ in range(COUNT)]
        yield Feeds(opened, stack.enter_context(ReceiverSet([each.receiver for each in opened])))


async def taken(given: Feeds, count: int) -> list[tuple[int, bytes]]:
    """So many payloads, with the numbers of their receivers; fewer where the iteration ends."""
    received: list[tuple[int, bytes]] = []
    async for receiver, batch in given.receivers:
        received += [(given.number(receiver), each) for each in batch.payloads()]
        if len(received) >= count:
            break
    return received


async def waiting(given: Feeds) -> asyncio.Task[list[tuple[int, bytes]]]:
    """A task that iterates over the set, and waits."""
    task = asyncio.create_task(taken(given, 1))
    await asyncio.sleep(0)
    assert waits(given) == [1] * COUNT
    return task


def waits(given: Feeds) -> list[int]:
    """How many tasks wait for each receiver."""
    found = [each.receiver._waits for each in given.feeds]
    return [len(each.current) if each else 0 for each in found]


@pytest.mark.parametrize("way", [{}, {"background": "8 MiB"}], ids=["", "background"])
def test_each_batch_comes_with_its_receiver_and_other_tasks_go_on(engine: str, way: dict[str, Any]) -> None:
    async def main() -> None:
        for number in (2, 0, 1):
            task = await waiting(given)
            given.feeds[number].send(payload(number))
            assert await task == [(number, payload(number))]
            assert waits(given) == [0] * COUNT

    with feeds(engine=engine, **way) as given:
        run(main())


@pytest.mark.needs("namespaces")
def test_what_waits_in_a_member_that_coalesces_comes(loopback: object) -> None:
    async def main() -> None:
        expected = [payload(number) for number in range(10)]
        given.feeds[1].send(*expected)
        assert await taken(given, len(expected)) == [(1, each) for each in expected]

    with feeds(coalesce=True, batch_size=3) as given:
        run(main())


@pytest.mark.parametrize("end", ["close", "detach"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "by another thread"])
def test_it_goes_on_with_those_that_are_open_and_ends_with_the_last(engine: str, end: str, elsewhere: bool) -> None:
    async def finish(number: int) -> None:
        close: Callable[[], Any] = getattr(given.feeds[number].receiver, end)
        sock = await asyncio.to_thread(close) if elsewhere else close()
        if sock:
            sock.close()

    async def main() -> None:
        for number in range(COUNT):
            task = asyncio.create_task(taken(given, 1))
            await asyncio.sleep(0)
            assert waits(given) == [0] * number + [1] * (COUNT - number)
            await finish(number)
            for other in given.feeds[number + 1 : number + 2]:
                other.send(payload(number))
            assert await task == [(number + 1, payload(number))][: COUNT - 1 - number]
        assert waits(given) == [0] * COUNT

    with feeds(engine=engine) as given:
        run(main())


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "by another thread"])
def test_the_end_of_the_set_ends_it(engine: str, elsewhere: bool) -> None:
    async def main() -> None:
        task = await waiting(given)
        await asyncio.to_thread(given.receivers.close) if elsewhere else given.receivers.close()
        assert await task == []
        assert waits(given) == [0] * COUNT

    with feeds(engine=engine) as given:
        run(main())
        with pytest.raises(OSError, match="iteration on a set of") as caught:
            aiter(given.receivers)
        assert caught.value.errno == errno.EBADF


def test_a_task_that_is_cancelled_leaves_everything_as_it_was(engine: str) -> None:
    async def main() -> None:
        task = await waiting(given)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert waits(given) == [0] * COUNT
        given.feeds[1].send(payload(1))
        assert await taken(given, 1) == [(1, payload(1))]

    with feeds(engine=engine) as given:
        run(main())


def test_one_task_of_a_loop_waits_for_a_receiver_alone_or_in_a_set(engine: str) -> None:
    async def main() -> None:
        task = await waiting(given)
        with pytest.raises(RuntimeError, match="another task of this event loop waits for it"):
            await anext(aiter(given.feeds[1].receiver))
        with pytest.raises(RuntimeError, match="another task of this event loop waits for it"):
            await anext(aiter(given.receivers))
        given.feeds[0].send(payload(0))
        assert await task == [(0, payload(0))]

    with feeds(engine=engine) as given:
        run(main())


def test_members_that_a_loop_of_another_thread_waits_for_may_be_closed(engine: str) -> None:
    with feeds(engine=engine) as given:
        worker = Worker(lambda: run(ended(given)))
        wait_until(lambda: any(waits(given)), PATIENCE)
        for each in given.feeds:
            each.receiver.close()
        worker.result()


def test_loops_that_are_busy_keep_a_set_from_its_end_no_longer_than_one_receiver(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patience is for all of them together: when it is over for the first, the others are not waited for."""
    monkeypatch.setattr(aio, "_PATIENCE", 0.0)

    async def main() -> None:
        task = await waiting(given)
        (wait,) = {wait for each in given.feeds for wait in each.receiver._waits.current}  # type: ignore[union-attr]
        Worker(given.feeds[0].receiver._waits.end).result()  # type: ignore[union-attr]
        monkeypatch.setattr(aio, "_PATIENCE", 10 * PATIENCE)
        Worker(given.receivers.close).result()  # the loop does not run meanwhile
        assert not wait.is_over.is_set()
        assert await task == []

    with feeds(engine=engine) as given:
        run(main())


async def ended(given: Feeds) -> None:
    assert await taken(given, 1) == []


FEW_DESCRIPTORS = """
import asyncio, os, resource, socket
import mcastfast

def receiver():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return mcastfast.Receiver.from_socket(sock)

receivers = mcastfast.ReceiverSet([receiver() for _ in range(8)])

async def main():
    before = os.listdir("/proc/self/fd")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + 3, limits[1]))
    try:
        await anext(aiter(receivers))
    except OSError as error:
        print(error.errno, "async iteration on a set of 8 receivers" in str(error), "ulimit" in error.__notes__[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    print(os.listdir("/proc/self/fd") == before)

asyncio.run(main())
receivers.close()
"""


@pytest.mark.needs("namespaces")
def test_too_few_descriptors_are_an_error_and_none_stays(loopback: Any) -> None:
    with script(FEW_DESCRIPTORS, namespace=loopback.namespace) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (out.split(), err) == ([str(errno.EMFILE), *["True"] * 3], "")
