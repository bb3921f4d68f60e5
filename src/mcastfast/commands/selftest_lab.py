"""Where `mcastfast selftest` makes its checks: the loopback interface, from which nothing can leave the host."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

from mcastfast import Receiver
from mcastfast.commands.loopback import Loopback, PinnedSender

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcastfast import Datagram

PATIENCE = 2.0
"""Seconds that a datagram may take: over loopback it takes microseconds, but the host may be busy."""

STRANGERS = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Sources that nobody is: RFC 5737, RFC 3849."""


class CheckError(Exception):
    """A check found what must not be; the text says what."""


def random_groups(version: int) -> tuple[str, str, str, str]:
    """Two groups for any source, two for named ones: for private use, in IPv6 of the scope of one interface."""
    first, second, *specific = random.sample(range(0x100, 0xFF00), 4)
    if version == 6:
        return (
            f"ff11::{first:x}", f"ff11::{second:x}",
            f"ff31::8000:{specific[0]:x}", f"ff31::8000:{specific[1]:x}",
        )  # fmt: skip
    a, b, c, d = (f"239.255.{number >> 8}.{number & 0xFF}" for number in (first, second, *specific))
    return a, b, c, d


class Lab(contextlib.ExitStack):
    """Senders and receivers of one check, all by loopback, on one port; a context, which closes them."""

    def __init__(self, loopback: Loopback, engine: str) -> None:
        super().__init__()
        self.loopback = loopback
        self.engine = engine
        self.port = loopback.free_port()
        self.group, self.other, self.specific, self.strange = random_groups(loopback.version)

    def receiver(self, *groups: str, **options: Any) -> Receiver:
        """A receiver of groups."""
        pinned = {"port": self.port, "interface": self.loopback.interface, "engine": self.engine}
        return self.enter_context(Receiver(*groups, **{**pinned, **options}))

    def sender(self, group: str, **options: Any) -> PinnedSender:
        """A sender to a group."""
        return self.enter_context(PinnedSender(group, self.loopback, port=self.port, engine=self.engine, **options))


def make_payloads(*sizes: int) -> list[bytes]:
    """Payloads of these sizes, no two the same above a few bytes."""
    return [random.randbytes(size) for size in sizes]


KEPT_OUT = b"not for the receiver"
"""The payload of what must not come."""


def expect(receiver: Receiver, payloads: Sequence[bytes]) -> list[Datagram]:
    """The datagrams that come, which have these payloads in this order and are all; CheckError where they differ."""
    received: list[Datagram] = []
    while len(received) < len(payloads):
        try:
            received += receiver.recv_batch(PATIENCE)
        except TimeoutError:
            raise CheckError(f"{len(received)} of {len(payloads)} datagrams came within {PATIENCE:g} s") from None
        compare(received, payloads)
    with contextlib.suppress(BlockingIOError):
        received += receiver.recv_batch(0)
    compare(received, payloads)
    return received


def compare(received: Sequence[Datagram | bytes], payloads: Sequence[bytes]) -> None:
    """CheckError where a datagram is not the one that is due."""
    for number, (datagram, payload) in enumerate(zip(received, payloads, strict=False), 1):
        if bytes(datagram) != payload:
            raise CheckError(f"datagram {number} of {len(payloads)} {_difference(bytes(datagram), payload, payloads)}")
    if len(received) > len(payloads):
        raise CheckError(f"{len(payloads)} datagrams were sent, and {len(received)} came")


def _difference(came: bytes, due: bytes, payloads: Sequence[bytes]) -> str:
    if came == KEPT_OUT:
        return "is one that is not for this receiver"
    if came in payloads:
        return f"is the one that is due as number {payloads.index(came) + 1}"
    if len(came) != len(due):
        return f"has {len(came)} bytes, not {len(due)}"
    at = next(place for place in range(len(due)) if came[place] != due[place])
    return f"of {len(due)} bytes differs at byte {at}"
