"""Receivers in an event loop of asyncio: what `async for` does with one, and with a set of them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from mcastfast.errors import Operation, UnsupportedError, os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mcastfast.receiver import Receiver

_LONGEST_TURN = 0.001
"""Seconds in which batches that are there already may keep the loop from its other tasks."""
_PATIENCE = 1.0
"""Seconds that a close() gives the loops of other threads to let go of the socket, which is open until then."""
_LOOK_AGAIN = 1.0
"""Seconds after which a task looks for what no descriptor shows."""

T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """What gives batches: a receiver, or a set of them."""

    @property
    def closed(self) -> bool:
        """Whether it gives nothing any more."""

    def recv_batch(self, timeout: float | None = None) -> T_co:
        """The next."""

    def _described(self) -> str: ...


class Batches(Generic[T_co]):
    """What a source gives, until it is closed; `receivers` tells whom to wait for."""

    def __init__(self, source: Source[T_co], receivers: Callable[[], Iterable[Receiver]]) -> None:
        self._source = source
        self._receivers = receivers
        self._turn_ends: float | None = None  # on the clock of the loop

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        loop = asyncio.get_running_loop()
        if self._turn_ends is not None and loop.time() >= self._turn_ends:
            self._turn_ends = None
            await asyncio.sleep(0)
        while True:
            if self._turn_ends is None:
                self._turn_ends = loop.time() + _LONGEST_TURN
            try:
                return self._source.recv_batch(timeout=0)
            except BlockingIOError:
                pass
            except OSError:
                if self._source.closed or not self._open():
                    raise StopAsyncIteration from None
                raise
            if not (receivers := self._open()):
                raise StopAsyncIteration
            await _until_readable(receivers, loop, self._source)
            self._turn_ends = None

    def _open(self) -> list[Receiver]:
        """Those that nobody is closing."""
        return [receiver for receiver in self._receivers() if not receiver._ends]


async def _until_readable(
    receivers: Sequence[Receiver], loop: asyncio.AbstractEventLoop, source: Source[object]
) -> None:
    """Return when one of the receivers of a source may have something, or is being closed."""
    everyone = [receiver._tasks() for receiver in receivers]
    for receiver, waits in zip(receivers, everyone, strict=True):
        if any(wait.loop is loop for wait in tuple(waits.current)):
            raise RuntimeError(
                f"async iteration on {receiver}: another task of this event loop waits for it, or was cancelled and "
                "has not ended yet"
            )
    try:
        wait = _Wait(loop, [receiver.fileno() for receiver in receivers])
    except OSError as error:
        if any(receiver._ends for receiver in receivers):
            return
        operands = f"a descriptor for each wait of async iteration on {source._described()}"
        raise os_error(Operation.OPEN, operands, error) from error
    try:
        for waits in everyone:
            waits.current.add(wait)
        if not any(receiver._ends for receiver in receivers):  # asked last: who closes one from here on finds the wait
            has_news = any(receiver._may_have_news() for receiver in receivers)
            await wait.until_readable(_LOOK_AGAIN if has_news else None)
    finally:
        wait.end()
        for waits in everyone:
            waits.current.discard(wait)


class Waits:
    """Who waits for a receiver in event loops, a task of a loop at a time."""

    def __init__(self) -> None:
        self.current: set[_Wait] = set()

    def end(self) -> None:
        """Before the receiver is closed, by any thread: end them all. Where that was interrupted, once more."""
        waits = tuple(self.current)
        for wait in waits:
            wait.let_go()
        for wait in waits:
            if wait.thread != threading.get_ident():
                wait.is_over.wait(max(wait.patience_ends - time.monotonic(), 0.0))

    def after_fork(self) -> None:
        """In the child, where their loops do not run."""
        for wait in self.current:
            wait.forget()
        self.current = set()


class _Wait:
    """A task's wait until one of some descriptors is readable. All but let_go() is for the thread of the loop.

    It watches descriptors of its own: the loop must have forgotten those before their numbers are another's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptors: Iterable[int]) -> None:
        self.loop = loop
        self.thread = threading.get_ident()
        self.is_over = threading.Event()
        self.patience_ends = float("inf")  # on the monotonic clock; once for all receivers of a set
        self._owned: list[int] = []  # who takes one out closes it
        try:
            for descriptor in descriptors:
                self._owned.append(socket.dup(descriptor))
        except BaseException:
            self.forget()
            raise
        self._descriptors = tuple(self._owned)
        self._future = loop.create_future()

    async def until_readable(self, patience: float | None) -> None:
        """Return when one is, when it was let go, or after so many seconds."""
        for descriptor in self._descriptors:
            self._watch(descriptor)
        timer = None if patience is None else self.loop.call_later(patience, self.end)
        try:
            await self._future
        finally:
            if timer:
                timer.cancel()

    def _watch(self, descriptor: int) -> None:
        if self.is_over.is_set():
            return
        try:
            self.loop.add_reader(descriptor, self.end)
        except NotImplementedError:
            raise UnsupportedError(
                f"async iteration: {type(self.loop).__name__} watches no descriptors; run "
                "asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)"
            ) from None
        except OSError:
            if not self.is_over.is_set():
                raise
        if self.is_over.is_set():  # by the handler of a signal that came meanwhile
            self.loop.remove_reader(descriptor)

    def let_go(self) -> None:
        """End it, by any thread."""
        self.patience_ends = min(self.patience_ends, time.monotonic() + _PATIENCE)
        if self.thread == threading.get_ident() or self.loop.is_closed():
            self.end()
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.end)  # also wakes a loop whose thread is in the handler of a signal

    def end(self) -> None:
        """The loop forgets the descriptors, and the task goes on."""
        if self._owned and not self.loop.is_closed():
            with suppress(NotImplementedError):
                for descriptor in self._descriptors:
                    self.loop.remove_reader(descriptor)
        self.forget()
        if not self.loop.is_closed() and not self._future.done():
            self._future.set_result(None)

    def forget(self) -> None:
        """Close the descriptors."""
        with suppress(IndexError):  # all are
            while True:
                socket.close(self._owned.pop())
        self.is_over.set()
