"""`async for batch in receiver`: an event loop goes on while there is nothing, and nothing is lost or left behind."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from netlab import wait_until
from receivelab import handler
from traffic import PATIENCE, Worker, feed, payload

from mcastfast import UnsupportedError, aio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mcastfast import Receiver

pytestmark = pytest.mark.usefixtures("watchable")

T = TypeVar("T")


def uvloop_loop() -> asyncio.AbstractEventLoop:
    """That of uvloop."""
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


loops = pytest.mark.parametrize(
    "loop_factory",
    [
        pytest.param(asyncio.SelectorEventLoop, id="asyncio"),
        pytest.param(uvloop_loop, id="uvloop", marks=pytest.mark.needs("uvloop")),
    ],
)
ways = pytest.mark.parametrize("way", [{}, {"background": "8 MiB"}], ids=["", "background"])


@pytest.fixture(scope="module", autouse=True)
def _pipe() -> None:
    """The one that the first loop of uvloop opens stays."""
    with suppress(ModuleNotFoundError), asyncio.Runner(loop_factory=uvloop_loop) as runner:
        runner.run(asyncio.sleep(0))


def run(
    main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop
) -> T:
    """Run it, for so long that a test ends."""

    async def in_time() -> T:
        async with asyncio.timeout(PATIENCE):
            return await main

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(in_time())


async def payloads_of(receiver: Receiver, count: int) -> list[bytes]:
    """So many payloads; fewer where the iteration ends."""
    received: list[bytes] = []
    async for batch in receiver:
        received += batch.payloads()
        if len(received) >= count:
            break
    return received


async def waiting(receiver: Receiver) -> asyncio.Task[list[bytes]]:
    """A task that iterates, and waits."""
    task = asyncio.create_task(payloads_of(receiver, 1))
    await asyncio.sleep(0)
    assert waits(receiver)
    return task


def waits(receiver: Receiver) -> int:
    """How many tasks wait for it."""
    return len(receiver._waits.current) if receiver._waits else 0


@loops
@ways
def test_every_datagram_comes_in_order(
    engine: str, way: dict[str, Any], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    expected = [payload(number) for number in range(200)]

    async def main() -> list[bytes]:
        task = asyncio.create_task(payloads_of(quiet.receiver, len(expected)))
        for start in range(0, len(expected), 10):
            quiet.send(*expected[start : start + 10])
            await asyncio.sleep(0)
        return await task

    with feed(engine=engine, batch_size=8, **way) as quiet:
        quiet.send(payload(1000))
        assert run(payloads_of(quiet.receiver, 1), loop_factory) == [payload(1000)]
        assert run(main(), loop_factory) == expected


@pytest.mark.needs("namespaces")
def test_what_waits_in_a_receiver_that_coalesces_comes(loopback: object) -> None:
    """Where select() would not see it."""
    with feed(coalesce=True, batch_size=3) as quiet:
        quiet.send(*map(payload, range(10)))
        assert run(payloads_of(quiet.receiver, 10)) == [payload(number) for number in range(10)]


@loops
@ways
def test_a_task_that_is_cancelled_leaves_everything_as_it_was(
    engine: str, way: dict[str, Any], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        task = await waiting(quiet.receiver)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not waits(quiet.receiver)
        quiet.send(payload(1))
        assert await payloads_of(quiet.receiver, 1) == [payload(1)]

    with feed(engine=engine, **way) as quiet:
        run(main(), loop_factory)
        quiet.send(payload(2))
        assert quiet.receiver.recv_batch(PATIENCE).payloads() == [payload(2)]


@loops
@ways
@pytest.mark.parametrize("end", ["close", "detach"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "by another thread"])
def test_the_end_of_the_receiver_ends_the_iteration(
    engine: str,
    way: dict[str, Any],
    end: str,
    elsewhere: bool,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        task = await waiting(quiet.receiver)
        sock = await asyncio.to_thread(finish) if elsewhere else finish()
        assert await task == []
        assert not waits(quiet.receiver)
        if sock:
            sock.close()

    with feed(engine=engine, **way) as quiet:
        finish = getattr(quiet.receiver, end)
        run(main(), loop_factory)


@loops
def test_the_handler_of_a_signal_may_close_it(
    engine: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with feed(engine=engine) as quiet, handler(quiet.receiver.close, lambda: waits(quiet.receiver) > 0):
        assert run(payloads_of(quiet.receiver, 1), loop_factory) == []


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_it_may_be_closed_while_the_loop_begins_to_watch(engine: str, before: bool) -> None:
    """By the handler of a signal; whoever then gets the number is not watched."""
    others: list[socket.socket] = []

    class Loop(asyncio.SelectorEventLoop):
        def add_reader(self, descriptor: Any, *callback: Any) -> None:  # type: ignore[override]
            if quiet.receiver.closed or descriptor == self._ssock.fileno():  # type: ignore[attr-defined]
                super().add_reader(descriptor, *callback)
                return
            if not before:
                super().add_reader(descriptor, *callback)
            quiet.receiver.close()
            others.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            if before:
                super().add_reader(descriptor, *callback)

    async def main() -> None:
        assert await payloads_of(quiet.receiver, 1) == []
        for other in others:
            assert not asyncio.get_running_loop().remove_reader(other)
            other.close()

    with feed(engine=engine) as quiet:
        run(main(), Loop)
    assert others


def in_a_thread(receiver: Receiver) -> Worker:
    """One whose event loop waits for the receiver when this returns."""
    before = waits(receiver)
    worker = Worker(lambda: run(payloads_of(receiver, 1)))
    wait_until(lambda: waits(receiver) > before, PATIENCE)
    return worker


def test_several_loops_wait_at_a_time_and_a_close_ends_them_all(engine: str) -> None:
    with feed(engine=engine) as quiet:
        workers = [in_a_thread(quiet.receiver) for _ in range(3)]
        quiet.send(payload(1))
        wait_until(lambda: waits(quiet.receiver) == 2, PATIENCE)
        quiet.receiver.close()
        assert sorted(worker.result() for worker in workers) == [[], [], [payload(1)]]


def test_a_close_that_was_interrupted_ends_them_all_when_it_is_called_again(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with feed(engine=engine) as quiet:
        workers = [in_a_thread(quiet.receiver) for _ in range(3)]
        with monkeypatch.context() as patched:
            patched.setattr(aio._Wait, "let_go", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                quiet.receiver.close()
        quiet.receiver.close()
        assert [worker.result() for worker in workers] == [[]] * 3


def _interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_a_loop_that_is_busy_lets_go_later_and_a_close_does_not_wait_for_it(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket is open until then: the number that the loop watches is no other's."""
    monkeypatch.setattr(aio, "_PATIENCE", 0.0)

    async def main() -> list[bytes]:
        task = await waiting(quiet.receiver)
        (wait,) = quiet.receiver._waits.current  # type: ignore[union-attr]
        Worker(quiet.receiver.close).result()  # the loop does not run meanwhile
        assert not wait.is_over.is_set()
        assert wait._owned
        return await task

    with feed(engine=engine) as quiet:
        assert run(main()) == []


def test_an_iterator_goes_on_after_a_timeout(engine: str) -> None:
    async def main() -> list[bytes]:
        iterator = aiter(quiet.receiver)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(iterator)
        quiet.send(payload(1))
        return (await anext(iterator)).payloads()

    with feed(engine=engine) as quiet:
        assert run(main()) == [payload(1)]


def test_a_close_does_not_wait_for_a_loop_that_is_over(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "_PATIENCE", 10 * PATIENCE)

    async def main() -> None:
        await waiting(quiet.receiver)
        asyncio.get_running_loop().stop()

    with feed(engine=engine) as quiet:
        loop = asyncio.SelectorEventLoop()
        with suppress(RuntimeError):
            loop.run_until_complete(main())
        tasks = asyncio.all_tasks(loop)
        loop.close()
        thread = threading.Thread(target=quiet.receiver.close)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_receiver_that_is_closed_between_batches_ends_it_and_a_closed_one_is_refused(engine: str) -> None:
    async def main() -> list[bytes]:
        received = []
        async for batch in quiet.receiver:
            received += batch.payloads()
            quiet.receiver.close()
        return received

    with feed(engine=engine) as quiet:
        quiet.send(payload(1))
        assert run(main()) == [payload(1)]
        with pytest.raises(OSError, match=r"iteration on .*: it is closed") as caught:
            quiet.receiver.__aiter__()
        assert caught.value.errno == errno.EBADF


def test_one_task_of_a_loop_waits_at_a_time(engine: str) -> None:
    async def main() -> list[bytes]:
        task = await waiting(quiet.receiver)
        with pytest.raises(RuntimeError, match="another task of this event loop waits for it"):
            await payloads_of(quiet.receiver, 1)
        quiet.send(payload(1))
        return await task

    with feed(engine=engine) as quiet:
        assert run(main()) == [payload(1)]


@pytest.mark.parametrize(("longest", "turns"), [(0.0, 5), (1e9, 0)])
def test_a_backlog_keeps_the_loop_from_its_other_tasks_for_so_long(
    engine: str, monkeypatch: pytest.MonkeyPatch, longest: float, turns: int
) -> None:
    monkeypatch.setattr(aio, "_LONGEST_TURN", longest)
    taken = 0

    async def other() -> None:
        nonlocal taken
        while True:
            taken += 1
            await asyncio.sleep(0)

    async def main() -> int:
        task = asyncio.create_task(other())
        assert len(await payloads_of(quiet.receiver, 6)) == 6
        task.cancel()
        return taken

    with feed(engine=engine, batch_size=1) as quiet:
        quiet.send(*map(payload, range(6)))
        assert run(main()) == turns


def test_a_loop_that_watches_no_descriptors_is_refused_with_the_remedy(engine: str) -> None:
    class Loop(asyncio.SelectorEventLoop):
        def add_reader(self, *_: object) -> None:
            raise NotImplementedError

    with (
        feed(engine=engine) as quiet,
        pytest.raises(UnsupportedError, match=r"Loop watches no descriptors; run asyncio"),
    ):
        run(payloads_of(quiet.receiver, 1), Loop)
