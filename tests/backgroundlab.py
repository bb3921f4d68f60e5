"""What tests of the receive thread share: the ways to receive, the thread as the kernel sees it, and its progress."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from netlab import wait_until
from traffic import PATIENCE, Feed, ahead, payload

from mcastfast import ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mcastfast import Batch, Receiver

SIZE = "16 MiB"
"""Memory for what a test sends."""

SMALL = 2 * 2**20
"""Memory for a handful of arenas of any kind."""

_ENGINES = [engine for engine in ENGINES if not ahead(engine)]
_WAYS = [{"engine": engine, "coalesce": False} for engine in _ENGINES] + [{"engine": "auto", "coalesce": None}]

ways = pytest.mark.parametrize("way", _WAYS, ids=[*_ENGINES, "trains"])
"""Options of a receiver: each engine that a thread can wait for, and trains where the system has them."""

_POLLS = {"7", "271", "73", "168", "309", "336"}
"""Numbers of poll(2) and ppoll(2) on x86-64, of both on arm64 and riscv64, and on i386 and arm."""

_PF_EXITING = 4
"""Among the flags of a thread, proc_pid_stat(5): it ends."""

families = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])


def tasks() -> set[int]:
    """The ids of this process's threads."""
    return set(map(int, os.listdir("/proc/self/task")))


def receive_threads(name: str = "mcastfast") -> list[int]:
    """Those that have this name, without what is ending: a thread that was joined may be listed a little longer."""
    found = []
    for task in tasks():
        try:
            stat = Path(f"/proc/self/task/{task}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        comm, _, rest = stat.partition("(")[2].rpartition(")")
        if comm == name and not int(rest.split()[6]) & _PF_EXITING:
            found.append(task)
    return found


def receive_thread(name: str = "mcastfast") -> int:
    """The only one; it names itself when it begins to run."""
    wait_until(lambda: len(receive_threads(name)) == 1, PATIENCE, what="the thread runs")
    return receive_threads(name)[0]


def status(task: int) -> dict[str, str]:
    """A thread's proc_pid_status(5)."""
    lines = Path(f"/proc/self/task/{task}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def wait_until_asleep(task: int) -> None:
    """Return when the thread waits for something to come: it has done what there was to do."""
    before = -1

    def is_asleep() -> bool:
        nonlocal before
        found = status(task)
        switches, last = int(found["voluntary_ctxt_switches"]), before
        before = switches
        return found["State"].startswith("S") and switches == last

    wait_until(is_asleep, PATIENCE, what="the thread sleeps")


def wait_until_idle(task: int) -> None:
    """Return when the thread does not even wait for more inside its receive: it polls its socket and what wakes it."""
    wait_until(lambda: _polled(task) == 2, PATIENCE, what="the thread polls both")


def is_resting(task: int) -> bool:
    """Whether the thread lets time pass for more: it polls what wakes it, and not its socket."""
    return _polled(task) == 1


def _polled(task: int) -> int:
    """How many descriptors the thread polls, 0 while it does something else: proc_pid_syscall(5)."""
    number, *arguments = Path(f"/proc/self/task/{task}/syscall").read_text().split()
    return int(arguments[1], 16) if number in _POLLS else 0


def wait_until_seen(receiver: Receiver, count: int) -> None:
    """Return when the thread has received, or lost for want of room, so many datagrams."""

    def is_seen() -> bool:
        stats = receiver.stats
        return stats.datagrams + stats.overrun + stats.kernel_drops >= count

    wait_until(is_seen, PATIENCE, what=f"{count} datagrams")


def send_slowly(feed: Feed, numbers: Iterable[int], *, burst: int = 100) -> None:
    """Send the payloads of these numbers, never more than a burst ahead of the thread."""
    seen = feed.receiver.stats
    count = seen.datagrams + seen.overrun + seen.kernel_drops
    waiting = []
    for number in numbers:
        waiting.append(payload(number))
        if len(waiting) == burst:
            feed.send(*waiting)
            count += burst
            waiting = []
            wait_until_seen(feed.receiver, count)
    feed.send(*waiting)
    wait_until_seen(feed.receiver, count + len(waiting))


def take_all(receiver: Receiver) -> Iterator[Batch]:
    """Batches until nothing is there."""
    while True:
        try:
            yield receiver.recv_batch(timeout=0)
        except BlockingIOError:
            return


def payloads(batches: Iterable[Batch]) -> list[bytes]:
    return [data for batch in batches for data in batch.payloads()]


def opened(feed: Any) -> tuple[Any, int]:
    """The feed's receiver and the id of its thread."""
    return feed.receiver, receive_thread()
