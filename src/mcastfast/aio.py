"""Receivers in an event loop of asyncio: what `async for batch in receiver` does."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from mcastfast.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcastfast._core import Batch
    from mcastfast.receiver import Receiver

_LONGEST_TURN = 0.001
"""Seconds in which batches that are there already may keep the loop from its other tasks."""
_PATIENCE = 1.0
"""Seconds that a close() gives the loop of another thread to forget the descriptor."""


class Wait:
    """A task's wait until a descriptor is readable. All but let_go() is for the thread of the loop."""

    __slots__ = ("_descriptor", "_future", "_is_over", "_thread", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self.loop = loop
        self._thread = threading.get_ident()
        self._descriptor = descriptor
        self._future = loop.create_future()
        self._is_over = False

    async def until_readable(self) -> None:
        """Return when it is, or when it was let go."""
        try:
            self.loop.add_reader(self._descriptor, self._end)
        except NotImplementedError:
            raise UnsupportedError(
                f"async iteration: {type(self.loop).__name__} watches no descriptors; run "
                "asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)"
            ) from None
        try:
            await self._future
        finally:
            self._end()

    def let_go(self) -> None:
        """Before the descriptor is closed, by any thread: the loop forgets it, and the task goes on."""
        if self._thread == threading.get_ident():
            self._end()
        forgotten = threading.Event()

        def forget() -> None:
            self._end()
            forgotten.set()

        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(forget)  # also wakes a loop whose thread is in the handler of a signal
            if self._thread != threading.get_ident():
                forgotten.wait(_PATIENCE)

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self.loop.is_closed():
            return
        self.loop.remove_reader(self._descriptor)
        if not self._future.done():
            self._future.set_result(None)


async def batches(receiver: Receiver) -> AsyncIterator[Batch]:
    """The batches of a receiver, until it is closed."""
    loop = asyncio.get_running_loop()
    turn_ends = loop.time() + _LONGEST_TURN
    while True:
        try:
            batch = receiver.recv_batch(timeout=0)
        except BlockingIOError:
            if not await _until_readable(receiver, loop):
                return
            turn_ends = loop.time() + _LONGEST_TURN
            continue
        except OSError:
            if receiver.closed:
                return
            raise
        yield batch
        del batch  # or it would hold its memory while the next is awaited
        if loop.time() >= turn_ends:
            await asyncio.sleep(0)
            turn_ends = loop.time() + _LONGEST_TURN


async def _until_readable(receiver: Receiver, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the receiver was open when the wait began."""
    waits = receiver._waits
    if waits is None:
        return False
    if any(wait.loop is loop for wait in tuple(waits)):
        raise RuntimeError(f"async iteration on {receiver}: another task of this event loop waits for it")
    wait = Wait(loop, receiver.fileno())
    waits.add(wait)
    try:
        if receiver._waits is waits:  # asked last: who closes it from here on finds the wait
            await wait.until_readable()
    finally:
        waits.discard(wait)
    return True
