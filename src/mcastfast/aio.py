"""Receivers in an event loop of asyncio: what `async for batch in receiver` does."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from mcastfast.errors import UnsupportedError

if TYPE_CHECKING:
    from mcastfast._core import Batch
    from mcastfast.receiver import Receiver

_LONGEST_TURN = 0.001
"""Seconds in which batches that are there already may keep the loop from its other tasks."""
_PATIENCE = 1.0
"""Seconds that a close() gives the loops of other threads to let go of the socket, which is open until then."""
_LOOK_AGAIN = 1.0
"""Seconds after which a task looks for what no descriptor shows."""


class Batches:
    """The batches of a receiver, until it is closed."""

    def __init__(self, receiver: Receiver, waits: Waits) -> None:
        self._receiver = receiver
        self._waits = waits
        self._turn_ends: float | None = None  # on the clock of the loop

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        receiver = self._receiver
        loop = asyncio.get_running_loop()
        if self._turn_ends is not None and loop.time() >= self._turn_ends:
            self._turn_ends = None
            await asyncio.sleep(0)
        while True:
            if self._turn_ends is None:
                self._turn_ends = loop.time() + _LONGEST_TURN
            try:
                return receiver.recv_batch(timeout=0)
            except BlockingIOError:
                pass
            except OSError:
                if receiver.closed:
                    raise StopAsyncIteration from None
                raise
            if not await self._waits.until_readable(receiver, loop):
                raise StopAsyncIteration
            self._turn_ends = None


class Waits:
    """Who waits for a receiver in event loops, a task of a loop at a time."""

    def __init__(self) -> None:
        self._waits: set[_Wait] = set()

    async def until_readable(self, receiver: Receiver, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the receiver may have something now; False when it is closed."""
        if any(wait.loop is loop for wait in tuple(self._waits)):
            raise RuntimeError(
                f"async iteration on {receiver}: another task of this event loop waits for it, or was cancelled and "
                "has not ended yet"
            )
        try:
            wait = _Wait(loop, receiver.fileno())
        except OSError:
            if receiver.closed:
                return False
            raise
        self._waits.add(wait)
        try:
            if not receiver._ends:  # asked last: who closes it from here on finds the wait
                await wait.until_readable(_LOOK_AGAIN if receiver._may_have_news() else None)
        finally:
            wait.end()
            self._waits.discard(wait)
        return not receiver._ends

    def end(self) -> None:
        """Before the receiver is closed, by any thread: end them all. Where that was interrupted, once more."""
        waits = tuple(self._waits)
        for wait in waits:
            wait.let_go()
        patience_ends = time.monotonic() + _PATIENCE
        for wait in waits:
            if wait.thread != threading.get_ident():
                wait.is_over.wait(max(patience_ends - time.monotonic(), 0.0))

    def after_fork(self) -> None:
        """In the child, where their loops do not run."""
        for wait in self._waits:
            wait.forget()
        self._waits = set()


class _Wait:
    """A task's wait until a descriptor is readable. All but let_go() is for the thread of the loop.

    It watches a descriptor of its own: the loop must have forgotten that before its number is another's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self.loop = loop
        self.thread = threading.get_ident()
        self.is_over = threading.Event()
        self._descriptor = socket.dup(descriptor)
        self._owned = [self._descriptor]  # who takes it out closes it
        self._future = loop.create_future()

    async def until_readable(self, patience: float | None) -> None:
        """Return when it is, when it was let go, or after so many seconds."""
        try:
            self.loop.add_reader(self._descriptor, self.end)
        except NotImplementedError:
            raise UnsupportedError(
                f"async iteration: {type(self.loop).__name__} watches no descriptors; run "
                "asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)"
            ) from None
        except OSError:
            if not self.is_over.is_set():
                raise
        if self.is_over.is_set():  # by the handler of a signal that came meanwhile
            self.loop.remove_reader(self._descriptor)
        timer = None if patience is None else self.loop.call_later(patience, self.end)
        try:
            await self._future
        finally:
            if timer:
                timer.cancel()

    def let_go(self) -> None:
        """End it, by any thread."""
        if self.thread == threading.get_ident() or self.loop.is_closed():
            self.end()
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.end)  # also wakes a loop whose thread is in the handler of a signal

    def end(self) -> None:
        """The loop forgets the descriptor, and the task goes on."""
        if self._owned and not self.loop.is_closed():
            with suppress(NotImplementedError):
                self.loop.remove_reader(self._descriptor)
        self.forget()
        if not self.loop.is_closed() and not self._future.done():
            self._future.set_result(None)

    def forget(self) -> None:
        """Close the descriptor."""
        with suppress(IndexError):  # it is
            socket.close(self._owned.pop())
        self.is_over.set()
