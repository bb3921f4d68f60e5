"""A load over a veth pair: a sender of exact counts on the second host, a consumer in a process of its own here."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import clock_gettime_ns, monotonic, sleep
from typing import TYPE_CHECKING

from bench import spead
from bench.consumers import ANEW, Order, State

if TYPE_CHECKING:
    from contextlib import ExitStack

    from bench.climit import Limit
    from bench.namespace import Remote

ROOT = Path(__file__).parent.parent
GROUP = "239.1.2.3"
SIZE = 256
QUIET = 0.3  # seconds without progress after which a consumer has all that it will get
_POLL = 0.02

_ports = itertools.count(41000)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one load.

    rate: datagrams a second that the sender kept. processor: nanoseconds of the consumer's processor time. counted:
    losses that the consumer knows of.
    """

    offered: int
    received: int
    rate: float
    processor: int
    counted: int | None
    percentiles: dict[str, float]

    @property
    def lost(self) -> int:
        return self.offered - self.received


def largest_receive_buffer() -> int:
    """Return what an ordinary user may ask for."""
    return int(Path("/proc/sys/net/core/rmem_max").read_text())


class Listener:
    """One consumer that stays for as many loads as wanted; each load goes to a port that is its own."""

    def __init__(
        self,
        stack: ExitStack,
        limit: Limit,
        remote: Remote,
        way: str,
        *,
        buffer: int | None = None,
        latencies: bool = False,
        stall: bool = False,
    ) -> None:
        self.way = way
        self._limit = limit
        port = next(_ports)
        processors = sorted(os.sched_getaffinity(0))
        # The sender watches the clock on a processor of its own, where the machine has two.
        self._sending, receiving = processors[-1], processors[:-1] or processors
        self._sender = stack.enter_context(remote.sender(GROUP, port))
        self._sender.setblocking(True)
        order = Order(
            group=GROUP,
            port=port,
            interface=remote.here,
            address=remote.address_here,
            buffer=buffer or largest_receive_buffer(),
            size=SIZE,
            library=str(limit.directory),
            latencies=latencies,
            stall=stall,
            processors=receiving,
        )
        command = [sys.executable, "-m", "bench.consumers", way, json.dumps(asdict(order))]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._is_ready = False
        stack.enter_context(self._process)
        stack.callback(self._process.kill)  # it has nothing to save and never ends by itself

    def state(self, *, anew: bool = False) -> State:
        """Ask the consumer; anew: its latencies are those of what comes from here on."""
        if not self._is_ready:
            self._line()
            self._is_ready = True
        print(ANEW if anew else "\n", end="", file=self._process.stdin, flush=True)
        return State(**json.loads(self._line()))

    def processor(self) -> int:
        """Return the nanoseconds of its processor time, without asking it: to answer would take some."""
        its_clock = ~self._process.pid << 3 | 2  # as clock_getcpuclockid(3) numbers it
        return clock_gettime_ns(its_clock)

    def take(self, *, rate: float, count: int, segments: int = 1) -> Outcome:
        """Offer so many datagrams at that rate, and wait until the consumer has them, or gets no more."""
        before, began = self.state(anew=True), self.processor()
        size, header = SIZE, ""
        if self.way == "spead2":
            size, header = SIZE + spead.HEADER, bytes(spead.packets(1, SIZE))[: spead.HEADER].hex()
        descriptor = self._sender.fileno()
        arguments = map(str, (descriptor, count, rate, size, segments, self._sending, header))
        sender = subprocess.run(
            [str(self._limit.load), *arguments],
            pass_fds=[descriptor],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            timeout=60,
        )
        offered, elapsed = map(int, sender.stdout.split())
        after = self.state()
        progress = monotonic()
        while after.received - before.received < offered and monotonic() < progress + QUIET:
            sleep(_POLL)
            seen, after = after.received, self.state()
            if after.received != seen:
                progress = monotonic()
        counted = after.counted if after.counted is None or before.counted is None else after.counted - before.counted
        return Outcome(
            offered=offered,
            received=after.received - before.received,
            rate=offered / elapsed * 1e9,
            processor=self.processor() - began,
            counted=counted,
            percentiles=after.percentiles,
        )

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"bench.consumers {self.way} ended with exit code {self._process.wait()}")
        return line
