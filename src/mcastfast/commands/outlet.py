"""Sending in spite of a full device queue: what `send` and `relay` have in common."""

from __future__ import annotations

import errno
import time
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcastfast import Batch, Sender
    from mcastfast.commands.stopping import Stop

_PAUSE = 0.001
"""Seconds, in which a device sends some of what is queued."""


class Outlet:
    """Sends through a sender; `refused` counts how often the device's queue was full, `oversize` what was left out."""

    def __init__(self, sender: Sender, *, skip_oversize: bool = False) -> None:
        self.sender = sender
        self.refused = 0
        self.oversize = 0
        self._skip_oversize = skip_oversize

    def send(self, payloads: Sequence[bytes] | Batch, stop: Stop) -> None:
        """Send all; what a full queue refuses is sent again, until `stop`.

        skip_oversize leaves out what is over the MTU of the path (Sender with fragment=False). Any other OSError is
        raised.
        """
        pending: Sequence[bytes] | Batch = payloads
        while True:
            try:
                self.sender.send_batch(pending)
                return
            except OSError as error:
                sent: int = getattr(error, "sent", 0)
                if error.errno == errno.ENOBUFS:
                    self.refused += 1
                    time.sleep(_PAUSE)
                elif error.errno == errno.EMSGSIZE and self._skip_oversize:
                    self.oversize += 1
                    sent += 1
                else:
                    raise
            pending = list(islice(iter(pending), sent, None))  # type: ignore[arg-type] # datagrams are bytes-like
            if not pending or stop.requested:
                return
