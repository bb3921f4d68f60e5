"""The sending side of `mcastfast bench`: full rate over loopback, bounded in time and number.

As a process, `python -m mcastfast.commands.bench_sender GROUP SIZE ENGINE` says with a line that it is ready, reads
orders from standard input, one JSON object a line, and answers each with a line on standard output. It ends with its
input.
"""

from __future__ import annotations

import json
import sys

from mcastfast.commands.loopback import Loopback, PinnedSender
from mcastfast.commands.outlet import Outlet
from mcastfast.commands.progress import Progress, Sample
from mcastfast.commands.stopping import PATIENCE, Stop

BATCH = 64


def open_sender(group: str, engine: str) -> PinnedSender:
    """A sender to the group whose datagrams do not leave the host."""
    return PinnedSender(group, Loopback.find(4), segment=False, timeout=PATIENCE, engine=engine)


def send_at_full_rate(outlet: Outlet, size: int, duration: float, count: int | None) -> int:
    """Send datagrams of `size` bytes until `duration` (seconds) or `count` ends it; how many went."""
    rows = [bytes(size)] * BATCH
    stop = Stop()
    before = outlet.sender.stats.datagrams
    left = sys.maxsize if count is None else count
    with Progress(lambda: Sample(()), None) as progress:
        stop.end_after(duration)
        while left > 0 and not stop.now:
            batch = rows[:left]
            outlet.send(batch, stop, progress)
            left -= len(batch)
    return outlet.sender.stats.datagrams - before


def main() -> None:
    """Obey orders."""
    group, size, engine = sys.argv[1:]
    with open_sender(group, engine) as sender:
        print("ready", flush=True)
        outlet = Outlet(sender)
        for line in sys.stdin:
            order = json.loads(line)
            print(send_at_full_rate(outlet, int(size), order["duration"], order["count"]), flush=True)


if __name__ == "__main__":
    main()
