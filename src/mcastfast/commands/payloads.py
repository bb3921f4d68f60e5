"""What `send` sends: pieces or lines of a stream, or generated datagrams."""

from __future__ import annotations

import errno
import select
from itertools import takewhile
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    import io

    from mcastfast.commands.stopping import Stop

LARGEST = {4: 65507, 6: 65527}
"""Bytes of payload that a datagram carries, by the version of IP."""

NUMBER_SIZE = 8
"""Bytes of the number that begins a generated datagram."""

_READ_SIZE = 64 * 1024
_LONGEST_LINE = 2**20
"""Bytes that are read of a line; far more than any datagram carries, to say how long it is."""


def check_size(size: int, largest: int) -> None:
    """Raise ValueError for a --size over the largest payload."""
    if size > largest:
        raise ValueError(f"--size {size} is over what a datagram carries, {largest} bytes")


class Payloads(Protocol):
    """Where payloads come from."""

    def take(self, most: int) -> list[bytes]:
        """Up to `most` of them, none when there are no more; waits for the first, not for further ones."""


class Generated:
    """Datagrams that count up from 0: eight bytes, big-endian (fewer where the datagram is shorter), then zeros."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._zeros = bytes(max(size - NUMBER_SIZE, 0))
        self._next = 0

    def take(self, most: int) -> list[bytes]:
        """The next ones; they never end."""
        numbers = range(self._next, self._next + most)
        self._next += most
        skipped = max(NUMBER_SIZE - self._size, 0)
        return [number.to_bytes(NUMBER_SIZE, "big")[skipped:] + self._zeros for number in numbers]


class _Input:
    """What was read of a stream and is not sent yet."""

    def __init__(self, stream: io.BufferedReader, stop: Stop) -> None:
        self.pending = b""
        self.ended = False
        self._stream = stream
        self._stop = stop

    def read_more(self) -> bool:
        """Wait for more; False at the end, or when the command is to end."""
        if not self._has_more():
            return False
        more = self._stop.interruptibly(lambda: self._stream.read1(_READ_SIZE), b"")
        self.pending += more
        self.ended = not more
        return bool(more)

    def _has_more(self) -> bool:
        """Wait for more, or the end, unless the command is to end before."""
        if not hasattr(select, "poll"):  # Windows knows readiness of sockets alone: there the read waits
            return True
        while not self._stop.now:
            if select.select([self._stream], [], [], self._stop.wait)[0]:
                return True
        return False


class Pieces:
    """A stream cut into pieces of `size` bytes, the last of which may be shorter.

    A pipe's pieces are whole however its writer wrote them. What is typed on a terminal goes line by line.
    """

    def __init__(self, stream: io.BufferedReader, size: int, stop: Stop) -> None:
        self._input = _Input(stream, stop)
        self._size = size
        self._typed = stream.isatty()

    def take(self, most: int) -> list[bytes]:
        """The next pieces."""
        source, size = self._input, self._size
        while len(source.pending) < size and source.read_more() and not self._typed:
            pass
        rest_goes = self._typed or source.ended
        number = min((len(source.pending) + (size - 1 if rest_goes else 0)) // size, most)
        pieces = [source.pending[start : start + size] for start in range(0, number * size, size)]
        source.pending = source.pending[number * size :]
        return pieces


class Lines:
    """The lines of a stream, without their ends, up to one of more than `largest` bytes, which is an error."""

    def __init__(self, stream: io.BufferedReader, largest: int, stop: Stop) -> None:
        self._input = _Input(stream, stop)
        self._largest = largest
        self._taken = 0
        self._stop = stop

    def take(self, most: int) -> list[bytes]:
        """The next lines. OSError (EMSGSIZE) when no datagram carries the first of them."""
        source = self._input
        while b"\n" not in source.pending and len(source.pending) < _LONGEST_LINE and source.read_more():
            pass
        *lines, rest = source.pending.split(b"\n", most)
        has_end = bool(lines) or source.ended
        if rest and not lines:
            lines, rest = [rest], b""
        taken = list(takewhile(self._fits, (line.removesuffix(b"\r") for line in lines)))
        if len(taken) < len(lines):
            if not taken and not self._stop.now:
                self._refuse(lines[0].removesuffix(b"\r"), has_end=has_end)
            rest = b"\n".join([*lines[len(taken) :], rest])
        source.pending = rest
        self._taken += len(taken)
        return taken

    def _fits(self, line: bytes) -> bool:
        return len(line) <= self._largest

    def _refuse(self, line: bytes, *, has_end: bool) -> NoReturn:
        error = OSError(
            errno.EMSGSIZE,
            f"line {self._taken + 1} has {'' if has_end else 'more than '}{len(line)} bytes, "
            f"a datagram carries at most {self._largest}",
        )
        error.add_note("The lines before it were sent. Without --lines the input goes in pieces of --size.")
        raise error
