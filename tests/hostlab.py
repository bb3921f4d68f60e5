"""What netlab is on Linux, on systems without network namespaces: the host as it is, and what lies beyond it.

Tests find it under the name netlab (conftest.py), with the names that they share. `loopback` is the host's own. `lan`
and `lan3` need a network of their own with another host on it, the far end: whoever starts the tests says so in
MCASTFAST_NETWORK, which tests/wine/run.py does. This process cannot enter the far end's network; it asks the far end to
send and to receive (tests/wine/far_end.py).
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import errno
import functools
import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NETWORK = os.environ.get("MCASTFAST_NETWORK")
_LOOKS = 30  # 60 ms: under Wine the first receive of an engine that posts them takes up to 20
_PATIENCE = 20.0


def enter_private_network() -> None:
    """As netlab's: whoever starts the tests has made them a network, or there is none."""
    if not _NETWORK:
        raise OSError(errno.ENOSYS, f"{sys.platform} has no network namespaces, and nobody made a network")


class Namespace:
    """The host of the tests or, `is_far`, one beyond it, which cannot be entered."""

    def __init__(self, *, is_far: bool = False) -> None:
        self.is_far = is_far

    def __enter__(self) -> Self:
        if self.is_far:
            pytest.skip("this process cannot enter the network of the far end")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """As netlab's."""

    @property
    def ip(self) -> NoReturn:
        pytest.skip("links and routes are changed through rtnetlink(7), which is Linux'")

    def proc(self, name: str) -> str:
        """As netlab's, asked of the far end; "" where there is none."""
        if not _NETWORK:
            pytest.skip(f"/proc/net/{name} is Linux'")
        return str(_ask("proc", name))


NEAR = Namespace()


@dataclass(frozen=True, slots=True)
class Link:
    """An interface with one address of each kind; `ipv6` is a unique local address, `link_local` has no zone."""

    namespace: Namespace
    name: str
    index: int
    ipv4: str
    ipv6: str
    link_local: str

    def route_multicast(self) -> None:
        """As netlab's. Where there is a loopback interface only, it has the routes; others are not changed."""


class Lan(NamedTuple):
    """Two hosts on one network."""

    receiver: Link
    sender: Link


class Lan3(NamedTuple):
    """A receiver and two sources on one network: what SSM is tested on."""

    receiver: Link
    first: Link
    second: Link


def loopback(namespace: Namespace) -> Link:
    """The host's loopback interface."""
    from mcastfast import interfaces

    found = next(interface for interface in interfaces() if interface.is_loopback)
    return Link(namespace, found.name, found.index, "127.0.0.1", "::1", "")


@contextlib.contextmanager
def lan3() -> Iterator[Lan3]:
    """The network with two hosts at its far end; skips where there is none."""
    if not _NETWORK:
        pytest.skip("no far end: nothing in MCASTFAST_NETWORK")
    from mcastfast import interfaces

    links = []
    for number, (name, *addresses) in enumerate(json.loads(_NETWORK)["links"]):
        index = 0 if number else next(one.index for one in interfaces() if one.name == name)
        links.append(Link(Namespace(is_far=True) if number else NEAR, name, index, *addresses))
    yield Lan3(*links)


@contextlib.contextmanager
def lan() -> Iterator[Lan]:
    """The same with one of them."""
    with lan3() as (receiver, first, _):
        yield Lan(receiver, first)


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """The host itself, where one is enough."""
    if count > 1:
        pytest.skip("several networks take network namespaces, which are Linux'")
    yield [NEAR]


def connect(a: Namespace, b: Namespace, *, subnet: int = 1, mtu: int = 1500) -> NoReturn:
    """Not here."""
    pytest.skip("links are made through rtnetlink(7), which is Linux'")


join_by_switch = connect


def throttle(link: Link, rate: str, *, burst: int, limit: int) -> NoReturn:
    """Not here."""
    pytest.skip("a token bucket is made through rtnetlink(7), which is Linux'")


def wait_until(predicate: Callable[[], object], timeout: float = 10.0, *, what: str = "") -> None:
    """Return when the predicate holds; TimeoutError after `timeout` seconds. For states that other processes reach."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what or predicate}")
        time.sleep(0.002)


def descriptors() -> dict[str, str]:
    """What this process has open, by number: nothing that this system would list."""
    return {}


def is_asleep(task: str) -> NoReturn:
    """Not here."""
    pytest.skip(f"what a thread does is told by {task}, which is Linux'")


def is_blocked(thread: threading.Thread) -> Callable[[], bool]:
    """A question to be asked until the answer is yes: whether the thread stays at one place of its Python code.

    It is asked with pauses in which the thread could run. It may be just about to sleep: the system does not tell.
    """
    seen: list[tuple[int, int]] = []

    def look() -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        if frame is not None:
            seen.append((id(frame), frame.f_lasti))
        return len(seen) >= _LOOKS and len(set(seen[-_LOOKS:])) == 1

    return look


in_poll = is_blocked


def require_signals() -> NoReturn:
    """Not here."""
    pytest.skip("no pthread_kill(3): a signal interrupts nothing")


def egress(link: Link) -> bytes:
    """What IP_MULTICAST_IF takes: the address."""
    return socket.inet_aton(link.ipv4)


def join_request(group: str, index: int) -> bytes:
    """What IP_ADD_MEMBERSHIP takes: group and address."""
    from mcastfast import interfaces

    (found,) = (interface for interface in interfaces() if interface.index == index)
    address = found.local_address(socket.AF_INET)
    assert address, found
    return socket.inet_aton(group) + address.packed


# What the far end does for the tests

_lock = threading.Lock()


@functools.cache
def _connection() -> Any:
    assert _NETWORK
    host, port = json.loads(_NETWORK)["far_end"]
    connected = socket.create_connection((host, port), timeout=_PATIENCE)
    atexit.register(connected.close)
    return connected.makefile("rw", encoding="ascii", newline="\n")


def _ask(call: str, *arguments: Any) -> Any:
    """Have the far end make a call; its exception is an AssertionError here."""
    with _lock:
        stream = _connection()
        stream.write(json.dumps([call, *arguments]) + "\n")
        stream.flush()
        failure, answer = json.loads(stream.readline())
    assert failure is None, f"far end, {call}{arguments}: {failure}"
    return answer


class FarSource:
    """As receivelab.Source, on the far end."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._number, self._ports = _ask("open_source", link.ipv4)

    def send(self, host: str, *payloads: bytes, port: int = 5000) -> None:
        """Send to a group, or to a host."""
        _ask("send", self._number, host, port, _encoded(payloads))

    def port(self, family: Any) -> int:
        """The port that datagrams of the family come from."""
        return int(self._ports["4" if family.number == socket.AF_INET else "6"])

    def close(self) -> None:
        """Close both sockets."""
        _ask("close", self._number)


class FarDatagram(bytes):
    """A datagram that the far end's mcastfast received."""

    source: tuple[Any, ...]
    destination: tuple[Any, ...]
    hops: int | None
    tos: int | None
    truncated: bool


class FarReceiver:
    """A Receiver of Linux' mcastfast on the far end, with what tests ask of it."""

    def __init__(self, link: Link, group: str, **options: Any) -> None:
        self._number = _ask("open_receiver", link.ipv4, group, options)

    def recv_batch(self, timeout: float) -> list[FarDatagram]:
        """The datagrams of one batch; none where nothing came in time."""
        received = []
        for payload, source, destination, hops, tos, truncated in _ask("receive", self._number, timeout):
            datagram = FarDatagram(base64.b64decode(payload))
            datagram.source, datagram.destination = tuple(source), tuple(destination)
            datagram.hops, datagram.tos, datagram.truncated = hops, tos, truncated
            received.append(datagram)
        return received

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _ask("close", self._number)


class FarSender:
    """A Sender of Linux' mcastfast on the far end."""

    def __init__(self, link: Link, group: str, **options: Any) -> None:
        self._number = _ask("open_sender", link.ipv4, group, options)

    def send_batch(self, payloads: list[bytes]) -> None:
        """As Sender's."""
        _ask("send_batch", self._number, _encoded(payloads))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _ask("close", self._number)


def _encoded(payloads: Any) -> list[str]:
    return [base64.b64encode(payload).decode() for payload in payloads]


def source_behind(link: Link) -> FarSource | None:
    """A source on the link where it is beyond this host, else None."""
    return FarSource(link) if link.namespace.is_far else None


def receiver_behind(link: Link, group: str, **options: Any) -> FarReceiver | None:
    """A receiver on the link where it is beyond this host, else None."""
    return FarReceiver(link, group, **{**options, "engine": "auto"}) if link.namespace.is_far else None


def receiving_first(lan: Lan) -> tuple[Link, Link]:
    """The far end receives what this host sends."""
    return lan.sender, lan.receiver


def scaled(count: int) -> int:
    """How many datagrams stand here for so many on Linux: what is emulated takes ten times as long."""
    return count // 10


def one_processor() -> contextlib.AbstractContextManager[None]:
    """This host's threads run where they like: the order of what is sent does not depend on them here."""
    return contextlib.nullcontext()
