"""What `mcastfast bench` measures: live runs against a sending process, and drains of queues that are full."""

from __future__ import annotations

import contextlib
import json
import random
import select
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Self

from mcastfast.commands.bench_methods import BATCH, METHODS, Method, open_socket
from mcastfast.commands.bench_sender import open_sender
from mcastfast.commands.loopback import Loopback
from mcastfast.commands.progress import Flow, Progress, Sample
from mcastfast.options import MEMORY, RECEIVE_BUFFER, get_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcastfast.commands.progress import Display
    from mcastfast.commands.stopping import Stop

ROUNDS = 101
_LONGEST_DRAIN = 512
_TITLE_WIDTH = max(len(method.title) for method in METHODS)
_STARTING_TIME = 20.0
_LONGEST_REPETITION = 3
"""Times the duration of the first live run."""
_LOOK_EVERY = 8192
"""Datagrams between two looks at whether the sending process is done, while they keep coming."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all measurements have in common."""

    group: str
    size: int
    engine: str
    duration: float
    count: int | None


@dataclass(frozen=True, slots=True)
class Live:
    """A live run. `seconds` from the first datagram to the last; `cpu` is the receiving thread's, in seconds."""

    offered: int
    received: int
    kernel_drops: int
    seconds: float
    cpu: float

    @property
    def unaccounted(self) -> int:
        """Datagrams that were sent and neither received nor counted as dropped."""
        return self.offered - self.received - self.kernel_drops


class SenderProcess:
    """The process that sends; a context."""

    def __init__(self, setting: Setting) -> None:
        module = "mcastfast.commands.bench_sender"
        # -P: nothing is imported from the folder that the user is in. Its own session: Ctrl-C is for this process, and
        # the end of its input ends that one.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, setting.group, str(setting.size), setting.engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        if self.answer(_STARTING_TIME) != "ready":
            raise OSError("the sending process does not start")
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.terminate()  # an order may still be under way

    def order(self, duration: float, count: int | None) -> None:
        """Let it send; answer() then tells how many datagrams went."""
        self._orders.write(json.dumps({"duration": duration, "count": count}) + "\n")
        self._orders.flush()

    def answer(self, timeout: float = 0.0) -> str | None:
        """Its next line, None where it has not come within `timeout` seconds; OSError if the process has gone."""
        if not select.select([self._answers], [], [], timeout)[0]:
            return None
        line = self._answers.readline()
        if not line:
            raise OSError(f"the sending process ended with code {self._process.wait()}")
        return line.rstrip("\n")


def run_lives(setting: Setting, display: Callable[[], Display | None], stop: Stop) -> list[Live]:
    """A live run of each method: the first for `duration` or `count`, the others with as many datagrams as that."""
    with SenderProcess(setting) as process:
        first, *others = METHODS
        lives = [_run_live(first, setting, process, display(), stop)]
        same = replace(setting, duration=_LONGEST_REPETITION * setting.duration, count=lives[0].offered)
        return lives + [_run_live(method, same, process, display(), stop) for method in others]


def _run_live(method: Method, setting: Setting, process: SenderProcess, display: Display | None, stop: Stop) -> Live:
    """Receive what the process sends, to the last datagram."""
    sock = open_socket(setting.group, Loopback.find(4).interface)
    received = 0

    def sample() -> Sample:
        flow = Flow(f"{method.title:<{_TITLE_WIDTH}}", received, received * setting.size)
        return Sample((flow,), (("kernel drops", get_option(sock, MEMORY).drops),))

    with contextlib.closing(method.make(sock, setting.size, setting.engine)) as taker:
        offered = None
        first = last = 0.0
        next_look = 0
        shown = 0
        with Progress(sample, display, summary=False) as progress:
            process.order(setting.duration, setting.count)
            start = time.thread_time_ns()
            while True:
                number = taker.take(BATCH)
                received += number
                if number:
                    last = time.monotonic()
                    first = first or last
                if number and received < next_look:
                    continue
                next_look = received + _LOOK_EVERY
                if stop.requested:
                    raise KeyboardInterrupt
                if offered is not None and not number:
                    break
                if offered is None and (answer := process.answer()):
                    offered = int(answer)
                before = time.thread_time_ns()
                progress.tick(active=number > 0)
                shown += time.thread_time_ns() - before
            cpu = (time.thread_time_ns() - start - shown) / 1e9
        return Live(offered, received, get_option(sock, MEMORY).drops, last - first, cpu)


@dataclass(frozen=True, slots=True)
class Drains:
    """Drains of queues of `depth` datagrams: the median of `rounds`, in nanoseconds a datagram, by method's name.

    buffer: bytes that the kernel reserves for a socket's queue.
    """

    depth: int
    rounds: int
    buffer: int
    nanoseconds: dict[str, float]


def run_drains(setting: Setting, stop: Stop) -> Drains:
    """Send the same datagrams to a socket of each method at once; then drain one after the other, in shuffled order."""
    interface = Loopback.find(4).interface
    with contextlib.ExitStack() as stack:
        sender = stack.enter_context(open_sender(setting.group, setting.engine))
        sockets = [open_socket(setting.group, interface) for _ in METHODS]
        takers = [
            (method, stack.enter_context(contextlib.closing(method.make(sock, setting.size, setting.engine))))
            for method, sock in zip(METHODS, sockets, strict=True)
        ]
        buffer = min(get_option(sock, RECEIVE_BUFFER) for sock in sockets)
        depth = max(1, min(_LONGEST_DRAIN, buffer // (2 * setting.size + 2048)))
        rows = [bytes(setting.size)] * depth
        times: dict[str, list[float]] = {method.name: [] for method in METHODS}
        for _ in range(ROUNDS):
            if stop.requested:
                raise KeyboardInterrupt
            sender.send_batch(rows)
            random.shuffle(takers)
            for method, taker in takers:
                left = depth
                start = time.perf_counter_ns()
                while left:
                    number = taker.take(min(left, BATCH))
                    if not number:
                        raise OSError(f"{left} of {depth} datagrams did not arrive over {interface}")
                    left -= number
                times[method.name].append((time.perf_counter_ns() - start) / depth)
        return Drains(depth, ROUNDS, buffer, {name: median(found) for name, found in times.items()})
