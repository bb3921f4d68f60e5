"""Receiving until a command's end: what `recv` and `relay` have in common."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from mcastfast import Batch, BufferClampedWarning, Receiver
from mcastfast.buffers import set_buffer
from mcastfast.commands.progress import Flow
from mcastfast.commands.stopping import PATIENCE
from mcastfast.options import RECEIVE_BUFFER

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Callable, Iterable, Iterator

    from mcastfast.commands.progress import Progress
    from mcastfast.commands.stopping import Stop


DEFAULT_BUFFER = 8 * 2**20
"""Bytes of receive buffer to ask for: a display that pauses for a moment must not lose data."""

_MOST_COPIED = 64
"""Datagrams, of the last that a count wants: each has max_datagram bytes."""


def open_groups(
    groups: Iterable[str],
    args: argparse.Namespace,
    *,
    port: int | None = None,
    ring: int | None = None,
    loopback: bool | None = None,
    metadata: Iterable[str] = (),
) -> Receiver:
    """A receiver of groups, as the options say."""
    with warnings.catch_warnings():
        if args.buffer is None:
            warnings.simplefilter("ignore", BufferClampedWarning)
        return Receiver(
            *groups,
            port=port,
            interface=args.interface,
            source=args.source,
            bind=args.bind,
            metadata=metadata,
            batch_size=args.batch_size,
            max_datagram=args.max_datagram,
            engine=args.engine,
            background=args.background,
            ring=ring,
            loopback=loopback,
            receive_buffer=args.buffer or DEFAULT_BUFFER,
            strict=not args.no_strict,
        )


def open_bound(sock: socket.socket, args: argparse.Namespace) -> Receiver:
    """A receiver over a bound socket, as the options say."""
    with warnings.catch_warnings():
        if args.buffer is None:
            warnings.simplefilter("ignore", BufferClampedWarning)
        set_buffer(sock, RECEIVE_BUFFER, args.buffer or DEFAULT_BUFFER)
    return Receiver.from_socket(
        sock,
        batch_size=args.batch_size,
        max_datagram=args.max_datagram,
        engine=args.engine,
        background=args.background,
    )


@dataclass(slots=True)
class Intake:
    """A receiver, whether it was opened with a thread, and after how many datagrams to end (None: never).

    With a thread that receives (`has_thread`) datagrams wait in memory: what counts as received is what came out of it.
    """

    receiver: Receiver
    has_thread: bool
    count: int | None
    _taken: int = field(default=0, init=False)
    _taken_bytes: int = field(default=0, init=False)
    _wanted: int | None = field(default=None, init=False)  # of what came, known from the end on

    @classmethod
    def of(cls, receiver: Receiver, args: argparse.Namespace) -> Self:
        """As the options say."""
        return cls(receiver, args.background is not None, args.count)

    def batches(self, stop: Stop, progress: Progress) -> Iterator[Batch]:
        """Yield batches until `stop` or the count ends it, with exactly `count` datagrams; keep `progress` moving.

        What waits in memory when `stop` comes is yielded too.
        """
        while self._taken != self.count and (not stop.now or self._waits_at_end()):
            try:
                batch = self._receive(PATIENCE if stop.now else min(stop.wait, progress.wait))
            except TimeoutError:
                progress.tick(active=False)
                continue
            self._taken += len(batch)
            if self.has_thread:
                self._taken_bytes += sum(batch.lengths)
            yield batch
            del batch  # or it would hold its memory while the next is awaited
            progress.tick(active=True)
        self._wanted = self._taken

    def pass_on(self, work: Callable[[Batch], object], stop: Stop, progress: Progress) -> int:
        """Give all batches to `work`, and say how many datagrams it did not get since a second signal gave them up."""
        try:
            for batch in self.batches(stop, progress):
                work(batch)
        except KeyboardInterrupt:
            if not stop.requested:
                raise
            return sum(map(len, self.batches(stop, progress)))
        return 0

    @property
    def received(self) -> Flow:
        """What was received, as the progress shows it."""
        if self.has_thread:
            return Flow("received", self._taken, self._taken_bytes)
        stats = self.receiver.stats
        return Flow("received", stats.datagrams, stats.bytes)

    @property
    def losses(self) -> tuple[tuple[str, int], ...]:
        """What did not come through, or not yet, as the progress shows it."""
        stats = self.receiver.stats
        always = ("kernel drops", stats.kernel_drops), ("foreign", stats.foreign), ("truncated", stats.truncated)
        further = (
            ("in memory", self._waiting),
            ("overrun", stats.overrun),
            ("fragments", stats.fragments),
            ("bad checksums", stats.bad_checksums),
        )
        return always + tuple(loss for loss in further if loss[1])

    @property
    def _waiting(self) -> int:
        """How many datagrams wait in memory, of those that are wanted."""
        if not self.has_thread:
            return 0
        wanted = self.receiver.stats.datagrams if self._wanted is None else self._wanted
        return max(wanted - self._taken, 0)  # more are taken where the last batch has some that came after the end

    def _waits_at_end(self) -> bool:
        """Whether anything waits of what had come when this was first asked."""
        if self._wanted is None:
            self._wanted = self._taken + self._waiting
        return self._waiting > 0

    def _receive(self, timeout: float) -> Batch:
        """Up to as many datagrams as the count still wants; those beyond stay where they are."""
        receiver = self.receiver
        most = receiver.batch_size if self.count is None else self.count - self._taken
        if most >= receiver.batch_size:
            return receiver.recv_batch(timeout)
        batch = Batch(bytearray(min(most, _MOST_COPIED) * receiver.max_datagram), max_datagram=receiver.max_datagram)
        receiver.recv_batch_into(batch, timeout)
        return batch


def describe_joins(receiver: Receiver) -> str:
    """What a receiver has joined, and the interfaces that had to be skipped, each on a line."""
    if not receiver.memberships:
        return f"receiving at {receiver.address[0]} port {receiver.address[1]}"
    joined = f"joined {', '.join(map(str, receiver.memberships))}; port {receiver.address[1]}"
    skipped = [f"skipped {refusal.interface}: {refusal.error.strerror}" for refusal in receiver.skipped]
    return "\n".join([joined, *skipped])
