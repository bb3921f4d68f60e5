"""Sending in spite of a full device queue: what `send` and `relay` have in common."""

from __future__ import annotations

import errno
import time
from itertools import islice
from typing import TYPE_CHECKING

from mcastfast.commands.payloads import LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcastfast import Batch, Sender
    from mcastfast.commands.stopping import Stop

_PAUSE = 0.001
"""Seconds, in which a device sends some of what is queued."""


class Outlet:
    """Sends through a sender; `refused` counts how often the device's queue was full, `oversize` what was left out.

    largest: bytes of payload that a datagram of the sender carries.
    """

    def __init__(self, sender: Sender, *, skip_oversize: bool = False) -> None:
        self.sender = sender
        self.largest = LARGEST[6 if ":" in sender.destination[0] else 4]
        self.refused = 0
        self.oversize = 0
        self._skip_oversize = skip_oversize

    def send(self, payloads: Sequence[bytes] | Batch, stop: Stop) -> None:
        """Send all; what a full queue refuses is sent again, until `stop`.

        skip_oversize leaves out what no datagram carries, and what is over the MTU of the path (Sender with
        fragment=False). Any other OSError is raised.
        """
        pending: Sequence[bytes] | Batch = payloads
        while True:
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
                else:
                    raise
            if not pending or stop.requested:
                return

    def _without_oversize(self, refused: list[bytes]) -> list[bytes]:
        """Without those that no datagram carries, for any of which all are refused; else it is the first alone."""
        rest = [payload for payload in refused if len(payload) <= self.largest]
        if len(rest) == len(refused):
            del rest[0]
        self.oversize += len(refused) - len(rest)
        return rest
