"""What `recv` makes of datagrams: a hex dump, JSON lines, or the bare payloads."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from time import monotonic, time_ns
from typing import IO, TYPE_CHECKING, Any, Protocol

from mcastfast.errors import CURRENT, Platform
from mcastfast.interface import interfaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcastfast import Batch, Datagram
    from mcastfast.sockets import SocketAddress

_ROW = 16


class Writer(Protocol):
    """Writes datagrams somewhere; `metadata` is what it wants a Receiver to ask for, where the system has it."""

    metadata: tuple[str, ...]

    def write(self, batch: Batch) -> None:
        """Write all datagrams of a batch, and pass them on to whoever reads."""


class PayloadWriter:
    """The payloads back to back."""

    metadata: tuple[str, ...] = ()

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, batch: Batch) -> None:
        """Write them."""
        self._stream.writelines(batch)
        self._stream.flush()


class HexWriter:
    """For each datagram a line that says when (local time), from where and to where, and below it the octets."""

    metadata: tuple[str, ...] = ("destination", "timestamp")

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, batch: Batch) -> None:
        """Write them."""
        for datagram in batch:
            cut = ", cut" if datagram.truncated else ""
            self._stream.write(
                f"{_time(datagram.timestamp, '%H:%M:%S', local=True)}  {_endpoint(datagram.source)} > "
                f"{_endpoint(datagram.destination)}  {_name(datagram.interface_index)}  {len(datagram)} bytes{cut}\n"
            )
            self._stream.writelines(_rows(bytes(datagram)))
            self._stream.write("\n")
        self._stream.flush()


class JsonWriter:
    """A JSON object on a line of its own for each datagram; `mcastfast recv --help` names the keys."""

    metadata: tuple[str, ...] = ("destination", "timestamp", "drops", "hops", "tos")

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, batch: Batch) -> None:
        """Write them."""
        drops: Iterable[int | None]
        try:
            drops = batch.dropped
        except ValueError:  # not among what the receiver tells here
            drops = [None] * len(batch)
        for datagram, dropped in zip(batch, drops, strict=True):
            self._stream.write(json.dumps(_as_object(datagram, dropped)) + "\n")
        self._stream.flush()


def _as_object(datagram: Datagram, dropped: int | None) -> dict[str, Any]:
    source, destination = datagram.source, datagram.destination
    return {
        "time": _time(datagram.timestamp, "%Y-%m-%dT%H:%M:%S") + "Z",
        "source": _host(source),
        "source_port": source[1],
        "destination": destination and _host(destination),
        "destination_port": destination and destination[1],
        "interface": _name(datagram.interface_index),
        "hops": datagram.hops,
        "tos": datagram.tos,
        "dropped": dropped,
        "length": len(datagram),
        "truncated": datagram.truncated,
        "payload": bytes(datagram).hex(),
    }


def _time(nanoseconds: int | None, form: str, *, local: bool = False) -> str:
    """A kernel timestamp, or where there is none the time now, with all its digits, which a datetime cannot hold."""
    seconds, fraction = divmod(time_ns() if nanoseconds is None else nanoseconds, 10**9)
    time = datetime.fromtimestamp(seconds, UTC)
    return f"{(time.astimezone() if local else time).strftime(form)}.{fraction:09}"


def _host(address: SocketAddress) -> str:
    """The host of a socket address, with its zone where it needs one."""
    return f"{address[0]}%{_name(address[3])}" if len(address) == 4 and address[3] else address[0]


def _endpoint(address: SocketAddress | None) -> str:
    if address is None:
        return "?"
    host = _host(address)
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def _name(index: int | None) -> str:
    """The interface's name, its number where it is gone."""
    if CURRENT is Platform.WINDOWS:
        return _NAMES.find(index or 0)
    try:
        return socket.if_indextoname(index or 0)
    except OSError:
        return str(index)


class _Names:
    """Windows' names by index as interfaces() has them: if_indextoname gives others there, such as ethernet_32769.

    The system is asked for all of them when one is missing, and again for the same one after a second.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._missing_until: dict[int, float] = {}

    def find(self, index: int) -> str:
        """The interface's name when it was first asked for, its number where there is none."""
        if index not in self._names and self._missing_until.get(index, 0.0) <= (now := monotonic()):
            self._names = {interface.index: interface.name for interface in interfaces()}
            self._missing_until[index] = now + 1.0
        return self._names.get(index) or str(index)


_NAMES = _Names()


def _rows(payload: bytes) -> list[str]:
    rows = []
    for start in range(0, len(payload), _ROW):
        row = payload[start : start + _ROW]
        text = "".join(chr(octet) if 0x20 <= octet < 0x7F else "." for octet in row)
        rows.append(f"  {start:04x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{text}|\n")
    return rows
