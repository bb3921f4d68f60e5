"""What tests of receivers share: plain senders, what a receiver delivered, and knowing that a thread is blocked."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import netlab
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from mcastfast import Receiver

T = TypeVar("T")

descriptors = netlab.descriptors

PORT = 5000
TIMEOUT = 20.0
"""Seconds that any one step may take."""


@dataclass(frozen=True, slots=True)
class Family:
    """What the tests name in one family: two groups, a source-specific one, and many more."""

    number: socket.AddressFamily
    group: str
    other: str
    specific: str
    pattern: str
    """`pattern % n` is a group for each n from 1 to 250."""

    def address(self, link: netlab.Link) -> str:
        """The link's address of this family."""
        return link.ipv4 if self.number == socket.AF_INET else link.ipv6


V4 = Family(socket.AF_INET, "239.1.2.3", "239.1.2.4", "232.1.2.3", "239.7.7.%d")
V6 = Family(socket.AF_INET6, "ff15::1:3", "ff15::1:4", "ff35::8000:3", "ff15::77:%x")
FAMILIES = [V4, V6]


def family_name(family: Family) -> str:
    """The id of a parametrized test."""
    return "v4" if family is V4 else "v6"


def at(group: str, link: netlab.Link, port: int = PORT) -> str:
    """The group's text with interface and port."""
    return f"[{group}%{link.name}]:{port}" if ":" in group else f"{group}%{link.name}:{port}"


def plain_socket(family: socket.AddressFamily, *, port: int | None = None, host: str = "") -> socket.socket:
    """A datagram socket as other programs have it: shared port, wildcard address."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(TIMEOUT)
    if port is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    return sock


def plain_join(sock: socket.socket, group: str, index: int) -> None:
    """Join by interface index, with the oldest options: what other programs do."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, netlab.join_request(group, index))
    else:
        request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=I", index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)


@contextlib.contextmanager
def member(namespace: netlab.Namespace, *joins: tuple[str, int], port: int = PORT) -> Iterator[socket.socket]:
    """Another program's socket on the wildcard address and the same port, joined to (group, interface index) pairs."""
    family = socket.AF_INET6 if ":" in joins[0][0] else socket.AF_INET
    with namespace, plain_socket(family, port=port) as sock:
        for group, index in joins:
            plain_join(sock, group, index)
        yield sock


def is_joined(link: netlab.Link, group: str) -> bool:
    """Whether the kernel lists the group on the link."""
    if ":" in group:
        wanted = socket.inet_pton(socket.AF_INET6, group).hex()
        return any(
            line.split()[0] == str(link.index) and line.split()[2] == wanted
            for line in link.namespace.proc("igmp6").splitlines()
        )
    wanted = f"{int.from_bytes(socket.inet_aton(group), sys.byteorder):08X}"
    name = ""
    for line in link.namespace.proc("igmp").splitlines()[1:]:
        if line.startswith("\t"):
            if name == link.name and line.split()[0] == wanted:
                return True
        else:
            name = line.split()[1]
    return False


def broadcasts(link: netlab.Link) -> list[str]:
    """The addresses of all hosts on a link of IPv4, whatever its network, and on this network."""
    return ["255.255.255.255", str(IPv4Interface(f"{link.ipv4}/24").network.broadcast_address)]


class Source:
    """A plain sender behind a link: one socket for each family, multicast by this link only."""

    def __init__(self, link: netlab.Link) -> None:
        self.link = link
        with link.namespace:
            self._sockets = {family.number: plain_socket(family.number) for family in FAMILIES}
        ipv4, ipv6 = self._sockets[socket.AF_INET], self._sockets[socket.AF_INET6]
        ipv4.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        ipv4.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, netlab.egress(link))
        ipv6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.index)
        ipv4.bind((link.ipv4, 0))
        ipv6.bind((link.ipv6, 0))

    def send(self, host: str, *payloads: bytes, port: int = PORT) -> None:
        """Send to a group, to a host, or to all on the link."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for payload in payloads:
            self._sockets[family].sendto(payload, (host, port))

    def port(self, family: Family) -> int:
        """The port that datagrams of the family come from."""
        number: int = self._sockets[family.number].getsockname()[1]
        return number

    def close(self) -> None:
        """Close both sockets."""
        for sock in self._sockets.values():
            sock.close()


@contextlib.contextmanager
def sources(*links: netlab.Link) -> Iterator[list[Source]]:
    """A Source behind each of the links."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(netlab.source_behind(link) or Source(link))) for link in links]


def receive(receiver: Receiver, count: int) -> list[bytes]:
    """At least so many payloads, in order; TimeoutError if they do not come."""
    received: list[bytes] = []
    while len(received) < count:
        received += receiver.recv_batch(timeout=TIMEOUT).payloads()
    return received


def receive_until(receiver: Receiver, last: bytes) -> list[bytes]:
    """The payloads before `last`, which is the end of what was sent to this receiver."""
    received: list[bytes] = []
    while last not in received:
        received += receiver.recv_batch(timeout=TIMEOUT).payloads()
    assert received[-1] == last, f"after {last!r} came {received[received.index(last) + 1 :]}"
    return received[:-1]


END = b"end"


def exchange(observer: socket.socket, *sends: tuple[Source, str, bytes]) -> None:
    """Send these payloads; when this returns, every socket of the observer's host has got those that are for it.

    The observer, see member(), has joined all the groups from any source. Each source sends END last, and its datagrams
    are delivered in order, each to all sockets: so whoever sees the ends knows that what came before is delivered.
    """
    for source, host, payload in sends:
        source.send(host, payload)
    paths = dict.fromkeys((source, host) for source, host, _ in sends)
    for source, host in paths:
        source.send(host, END)
    seen = [observer.recv(2048) for _ in range(len(sends) + len(paths))]
    assert sorted(seen) == sorted([payload for *_, payload in sends] + [END] * len(paths))


def drain(receiver: Receiver) -> list[bytes]:
    """The payloads that are there now, in order, without the ends of exchange()."""
    received: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            received += receiver.recv_batch(timeout=0).payloads()
    return [payload for payload in received if payload != END]


def is_empty(receiver: Receiver) -> bool:
    """Whether there is nothing to receive now."""
    try:
        batch = receiver.recv_batch(timeout=0)
    except BlockingIOError:
        return True
    raise AssertionError(f"{receiver} still had {batch.payloads()}")


def dropped_by_all(link: netlab.Link, family: Family) -> int:
    """Drops of the sockets of one family in the link's namespace: the last column of proc_net_udp(5)."""
    text = link.namespace.proc("udp" if family is V4 else "udp6")
    return sum(int(line.split()[-1]) for line in text.splitlines()[1:])


class Worker(threading.Thread, Generic[T]):
    """A thread that runs one call and keeps what became of it."""

    def __init__(self, call: Callable[..., T], *arguments: Any, namespace: netlab.Namespace | None = None) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._arguments = arguments
        self._namespace = namespace
        self._outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        try:
            with self._namespace or contextlib.nullcontext():
                self._outcome.put((self._call(*self._arguments), None))
        except BaseException as error:  # raised again in result()
            self._outcome.put((None, error))

    def wait_until_blocked(self) -> None:
        """Return when the call sleeps in the kernel; whatever it waits for has not come by then."""
        is_blocked = netlab.is_blocked(self)
        netlab.wait_until(lambda: self._outcome.qsize() or is_blocked(), TIMEOUT)
        if self._outcome.qsize():
            value, error = self._outcome.get()
            raise error or AssertionError(f"the call did not block, it gave {value!r}")

    def result(self) -> T:
        """What the call returned or raised; queue.Empty if it is not done in time."""
        value, error = self._outcome.get(timeout=TIMEOUT)
        self.join(TIMEOUT)
        if error is not None:
            raise error
        return value  # type: ignore[return-value]


needs_gil = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without the GIL nobody waits for another thread"
)


def calls_before_another_thread(call: Callable[[], object], count: int) -> int:
    """How many of so many calls are made before a thread gets the GIL that waits for it from the start.

    With the fixture "never_switching" it gets it when a call lets go. One more call comes before all that.
    """
    made = 0
    begun = threading.Event()

    def run() -> None:
        nonlocal made
        call()
        begun.set()
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass  # with the GIL, for which the other wakes and queues meanwhile
        for _ in range(count):
            call()
            made += 1

    calling = Worker(run)
    assert begun.wait(TIMEOUT)
    seen = made
    calling.result()
    return seen


def interrupt(call: Callable[[], object], step: int) -> bool:
    """Make a call and raise KeyboardInterrupt at this step of its Python code, as a signal handler may; did it come?"""
    left = step

    def trace(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return trace

    tracing = sys.gettrace()
    gc.disable()  # its finalizers would swallow the exception
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracing)
        gc.enable()
    return False


@contextlib.contextmanager
def handler(
    call: Callable[[], object], when: Callable[[], object] | None = None, *, interrupts: bool = True
) -> Iterator[threading.Event]:
    """Have a signal handler of the main thread make a call, once, when `when` says so; by default when it is blocked.

    SIGUSR1, since pytest-timeout needs SIGALRM; without `interrupts` another thread gets it, and the main thread's
    system call goes on. The event is set when the signal has been sent.
    """
    netlab.require_signals()
    main = threading.main_thread()
    is_blocked = netlab.is_blocked(main)
    sent = threading.Event()
    stopped = threading.Event()

    def send() -> None:
        while not stopped.is_set():
            if (when or is_blocked)():
                sent.set()
                signal.pthread_kill((main.ident if interrupts else None) or threading.get_ident(), signal.SIGUSR1)
                return
            stopped.wait(0.001)

    previous = signal.signal(signal.SIGUSR1, lambda *_: call())
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield sent
    finally:
        stopped.set()
        sender.join()
        signal.signal(signal.SIGUSR1, previous)


@contextlib.contextmanager
def script(text: str, *arguments: str, namespace: netlab.Namespace) -> Iterator[subprocess.Popen[str]]:
    """A Python process in the namespace that runs `text`; killed in the end if it still runs."""
    with namespace:
        process = subprocess.Popen(
            [sys.executable, "-c", text, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_seen_from_another_thread(work: Callable[[], object], look: Callable[[], int]) -> int:
    """What a thread sees first that is not 0, while another one works."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        Worker(work)
        until = time.monotonic() + TIMEOUT
        while not (seen := look()) and time.monotonic() < until:
            pass
    finally:
        sys.setswitchinterval(before)
    return seen
