"""Sending in spite of a full queue, until a command's end: what `send` and `relay` have in common."""

from __future__ import annotations

import errno
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from mcastfast import TTL, Sender
from mcastfast.commands.payloads import LARGEST
from mcastfast.commands.progress import Flow
from mcastfast.commands.stopping import PATIENCE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from mcastfast import Batch
    from mcastfast.commands.progress import Progress
    from mcastfast.commands.stopping import Stop

_PAUSE = 0.001
"""Seconds, in which a device sends some of what is queued."""
_OWN_WAIT = 0.002
"""Seconds: the end of a wait is left to the sender, which is exact."""


def open_group(
    text: str, args: argparse.Namespace, *, interface: str | None, send_buffer: int | None, **further: Any
) -> Sender:
    """A sender to a group, as the options say; `further` keywords of Sender that only one command has."""
    return Sender(
        text,
        interface=interface,
        local=args.local,
        ttl=TTL.SUBNET if args.ttl is None else args.ttl,
        loopback=args.loopback,
        fragment=not args.no_fragment,
        send_buffer=send_buffer,
        segment=args.segment,
        timeout=PATIENCE,
        engine=args.engine,
        strict=not args.no_strict,
        **further,
    )


class Outlet:
    """Sends through a sender, whose timeout says how often it looks whether to stop.

    largest: bytes of payload that a datagram of the sender carries. refused: how often the device's queue was full.
    oversize: datagrams that were left out. unsent: those that the end came before.
    """

    def __init__(self, sender: Sender, *, skip_oversize: bool = False) -> None:
        self.sender = sender
        self.largest = LARGEST[6 if ":" in sender.destination[0] else 4]
        self.refused = 0
        self.oversize = 0
        self.unsent = 0
        self._skip_oversize = skip_oversize

    def await_turn(self, stop: Stop, progress: Progress) -> None:
        """Wait until it is nearly the next datagram's turn at the rate, or until `stop`; keep `progress` moving."""
        while not stop.now and (delay := self.sender.delay) > _OWN_WAIT:
            time.sleep(min(delay - _OWN_WAIT, stop.wait, progress.wait))
            progress.tick(active=False)

    def send(self, payloads: Sequence[bytes] | Batch, stop: Stop, progress: Progress, *, grace: float = 0.0) -> None:
        """Send all, what a full queue or buffer refuses again, until `stop`; keep `progress` moving.

        grace: seconds that it may take nevertheless when `stop` has come. skip_oversize leaves out what no datagram
        carries, and what is over the MTU of the path (Sender with fragment=False). Any other OSError is raised.
        """
        pending: Sequence[bytes] | Batch = payloads
        deadline: float | None = None
        while pending:
            if self.unsent and stop.now:  # what came before has found no way out
                self.unsent += len(pending)
                return
            try:
                self.sender.send_batch(pending)
                return
            except OSError as error:
                sent: int = getattr(error, "sent", 0)
                pending = list(islice(iter(pending), sent, None))  # type: ignore[arg-type] # datagrams are bytes-like
                if error.errno == errno.ENOBUFS:
                    self.refused += 1
                    time.sleep(_PAUSE)
                elif error.errno == errno.EMSGSIZE and self._skip_oversize:
                    pending = self._without_oversize(pending)
                elif not isinstance(error, TimeoutError):
                    raise
            progress.tick(active=sent > 0)
            self.await_turn(stop, progress)
            if stop.now:
                deadline = deadline or time.monotonic() + grace
                if time.monotonic() >= deadline:
                    self.unsent += len(pending)
                    return

    @property
    def sent(self) -> Flow:
        """What was sent, as the progress shows it."""
        stats = self.sender.stats
        return Flow("sent", stats.datagrams, stats.bytes)

    @property
    def losses(self) -> tuple[tuple[str, int], ...]:
        """What did not go out as it came, as the progress shows it."""
        oversize = (("oversize", self.oversize),) if self._skip_oversize else ()
        unsent = (("not sent", self.unsent),) if self.unsent else ()
        return (
            ("device queue full", self.refused),
            *oversize,
            ("late errors", self.sender.stats.late_errors),
            *unsent,
        )

    def _without_oversize(self, refused: list[bytes]) -> list[bytes]:
        """Without those that no datagram carries, for any of which all are refused; else it is the first alone."""
        rest = [payload for payload in refused if len(payload) <= self.largest]
        if len(rest) == len(refused):
            del rest[0]
        self.oversize += len(refused) - len(rest)
        return rest
