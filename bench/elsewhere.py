"""The benchmarks' own side of bench.peers: starts one and has it move datagrams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

ROOT = Path(__file__).parent.parent


class Peer:
    """A process of its own that receives or sends; it ends with the stack. The caller waits until it is ready."""

    def __init__(self, stack: ExitStack, direction: str, way: str, descriptor: int, library: Path, size: int) -> None:
        self._name = f"bench.peers {direction} {way}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.peers", direction, way, str(descriptor), str(library), str(size)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            text=True,
        )
        stack.enter_context(self._process)
        stack.callback(self._process.kill)  # it has nothing to save, and in a lost turn it waits for ever
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def wait_until_ready(self) -> None:
        self._answer()

    def stay_on(self, processors: set[int]) -> None:
        # Threads are pinned one by one; spead2 has some.
        for thread in os.listdir(f"/proc/{self._process.pid}/task"):
            os.sched_setaffinity(int(thread), processors)

    def move(self, count: int) -> tuple[int, int]:
        """Have it move so many datagrams; return nanoseconds and how many went."""
        print(count, file=self._orders, flush=True)
        elapsed, moved = map(int, self._answer().split())
        return elapsed, moved

    def _answer(self) -> str:
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with exit code {self._process.wait()}")
        return line


def gather(stack: ExitStack, peers: Iterable[Peer]) -> None:
    """Wait until the peers are ready, then keep them and this process on one processor until the stack ends.

    As if they were one process: datagrams would change caches on their way otherwise.
    """
    allowed = os.sched_getaffinity(0)
    for peer in peers:
        peer.wait_until_ready()
        peer.stay_on({min(allowed)})
    os.sched_setaffinity(0, {min(allowed)})
    stack.callback(os.sched_setaffinity, 0, allowed)
