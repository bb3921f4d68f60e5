"""Receiving until a command's end: what `recv` and `relay` have in common."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from mcastfast import Batch, BufferClampedWarning, Receiver, ReceiverStats
from mcastfast.buffers import set_buffer
from mcastfast.options import RECEIVE_BUFFER

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Iterable, Iterator

    from mcastfast.commands.progress import Progress
    from mcastfast.commands.stopping import Stop


DEFAULT_BUFFER = 8 * 2**20
"""Bytes of receive buffer to ask for: a display that pauses for a moment must not lose data."""


def open_groups(
    groups: Iterable[str],
    args: argparse.Namespace,
    *,
    port: int | None = None,
    ring: int | None = None,
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


@dataclass(frozen=True, slots=True)
class Intake:
    """A receiver, what it was opened with, and after how many datagrams to end (None: never)."""

    receiver: Receiver
    batch_size: int
    max_datagram: int
    count: int | None

    @classmethod
    def of(cls, receiver: Receiver, args: argparse.Namespace) -> Self:
        """As the options say."""
        return cls(receiver, args.batch_size, args.max_datagram, args.count)

    def batches(self, stop: Stop, progress: Progress) -> Iterator[Batch]:
        """Yield batches until `stop` or the count ends it, with exactly `count` datagrams; keep `progress` moving."""
        left = self.count
        while not stop.now and left != 0:
            try:
                batch = self._receive(min(stop.wait, progress.wait), left)
            except TimeoutError:
                progress.tick(active=False)
                continue
            if left is not None:
                left -= len(batch)
            yield batch
            del batch  # or it would hold its memory while the next is awaited
            progress.tick(active=True)

    def _receive(self, timeout: float, most: int | None) -> Batch:
        """Up to `most` datagrams; those beyond stay in the socket."""
        if most is None or most >= self.batch_size:
            return self.receiver.recv_batch(timeout)
        batch = Batch(bytearray(most * self.max_datagram), max_datagram=self.max_datagram)
        self.receiver.recv_batch_into(batch, timeout)
        return batch


def losses(stats: ReceiverStats) -> tuple[tuple[str, int], ...]:
    """What did not come through, as the progress shows it."""
    always = ("kernel drops", stats.kernel_drops), ("foreign", stats.foreign), ("truncated", stats.truncated)
    further = ("overrun", stats.overrun), ("fragments", stats.fragments), ("bad checksums", stats.bad_checksums)
    return always + tuple(loss for loss in further if loss[1])


def describe_joins(receiver: Receiver) -> str:
    """What a receiver has joined, and the interfaces that had to be skipped, each on a line."""
    if not receiver.memberships:
        return f"receiving at {receiver.address[0]} port {receiver.address[1]}"
    joined = f"joined {', '.join(map(str, receiver.memberships))}; port {receiver.address[1]}"
    skipped = [f"skipped {refusal.interface}: {refusal.error.strerror}" for refusal in receiver.skipped]
    return "\n".join([joined, *skipped])
