"""What a running command shows on standard error: live on a terminal, else a line a second; in the end a summary."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

LINE_INTERVAL = 1.0
LIVE_INTERVAL = 0.2
RATE_SPAN = 0.8
"""Seconds: how often each kind of display is renewed, and over how long a time at least rates are taken."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What has gone in one direction since the start; `name` is a past participle, such as "received"."""

    name: str
    datagrams: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """All counts of a command at one time; `losses` are those that should be 0, each with its name."""

    flows: tuple[Flow, ...]
    losses: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rates:
    """Datagrams, and bits of payload, each second."""

    datagrams: float
    bits: float

    @classmethod
    def between(cls, earlier: Flow, later: Flow, elapsed: float) -> Self:
        """The rates of a flow over `elapsed` seconds; 0 where no time has passed."""
        if elapsed <= 0:
            return cls(0.0, 0.0)
        return cls((later.datagrams - earlier.datagrams) / elapsed, 8 * (later.bytes - earlier.bytes) / elapsed)

    def __str__(self) -> str:
        return f"{self.datagrams:,.0f} datagrams/s, {self.bits / 1e6:,.1f} Mbit/s"


class Display(Protocol):
    """A way to show the state of a command."""

    interval: float

    def show(self, elapsed: float, sample: Sample, rates: list[Rates]) -> None:
        """Show what is true `elapsed` seconds after the start."""

    def close(self) -> None:
        """Take away what is not to stay."""


class Progress:
    """Reads a command's counts from time to time and shows them; as a context, from the start to the summary.

    read: gives the counts. display: None shows nothing, not even the summary. Calls of tick() are cheap: they may come
    with each batch.
    """

    def __init__(
        self,
        read: Callable[[], Sample],
        display: Display | None,
        *,
        summary: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._read = read
        self._display = display
        self._with_summary = summary
        self._stream = stream or sys.stderr
        self._history: deque[tuple[float, Sample]] = deque()
        self._first_activity: tuple[float, Sample] | None = None
        self._last_activity = 0.0

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._origin = self._read()
        self._history.append((self._start, self._origin))
        self._due = self._start + self._display.interval if self._display else float("inf")
        return self

    @property
    def wait(self) -> float:
        """Seconds, above 0, until tick() has something to do."""
        return max(self._due - time.monotonic(), 1e-3)

    def tick(self, *, active: bool) -> None:
        """Show the state if it is time; `active`: datagrams have moved since the last call."""
        now = time.monotonic()
        if active:
            if self._first_activity is None:
                self._first_activity = now, self._read()
            self._last_activity = now
        if now >= self._due and self._display:
            self._due = max(self._due + self._display.interval, now)
            self._show(self._display, now)

    def _show(self, display: Display, now: float) -> None:
        sample = self._read()
        while len(self._history) > 1 and self._history[1][0] <= now - RATE_SPAN:
            self._history.popleft()
        then, earlier = self._history[0]
        self._history.append((now, sample))
        rates = [Rates.between(old, new, now - then) for old, new in zip(earlier.flows, sample.flows, strict=True)]
        display.show(now - self._start, sample, rates)

    def __exit__(self, *_: object) -> None:
        if self._display:
            self._display.close()
        if self._display and self._with_summary:
            for line in self._summary():
                print(line, file=self._stream)

    def _summary(self) -> list[str]:
        """A line for each flow, with the rate of what followed the first batch, and one for the losses.

        That batch itself is left out: when its datagrams began to move nobody saw.
        """
        sample = self._read()
        elapsed = time.monotonic() - self._start
        first, begun = self._first_activity or (self._last_activity, self._origin)
        busy = self._last_activity - first
        lines = []
        for old, early, new in zip(self._origin.flows, begun.flows, sample.flows, strict=True):
            number = new.datagrams - old.datagrams
            text = f"{new.name} {number:,} datagram{'' if number == 1 else 's'}, {in_bytes(new.bytes - old.bytes)}"
            average = f": {Rates.between(early, new, busy)}" if busy > 0 else ""
            lines.append(f"{text} in {elapsed:.1f} s{average}")
        if sample.losses:
            lines.append(", ".join(f"{name} {number:,}" for name, number in sample.losses))
        return lines


class LineDisplay:
    """A line a second, in columns, for a log or a pipe."""

    interval = LINE_INTERVAL

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, elapsed: float, sample: Sample, rates: list[Rates]) -> None:
        """Write the line."""
        cells = [f"{elapsed:7.1f} s"]
        cells += [
            f"{flow.name} {flow.datagrams:>11,} {rate.datagrams:>10,.0f} datagrams/s {rate.bits / 1e6:>8,.1f} Mbit/s"
            for flow, rate in zip(sample.flows, rates, strict=True)
        ]
        cells += [f"{name} {number:,}" for name, number in sample.losses]
        print("   ".join(cells), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing: lines stay."""


class LiveDisplay:
    """A few lines that are renewed in place, on a terminal."""

    interval = LIVE_INTERVAL

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=stream, highlight=False)
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()

    def show(self, elapsed: float, sample: Sample, rates: list[Rates]) -> None:
        """Renew the lines."""
        self._live.update(_render(elapsed, sample, rates, self._live.console), refresh=True)

    def close(self) -> None:
        """Clear the lines and give the cursor back."""
        self._live.stop()


_LAYOUTS = [
    ["elapsed", "name", "rate", "bits", "total"],
    ["name", "rate", "bits", "total"],
    ["name", "rate", "total"],
    ["name", "brief_rate", "brief_total"],
]
"""Columns of the live display, the widest first, which fits into the 80 of most terminals."""

_GAP = 2
"""Spaces between columns."""


def _render(elapsed: float, sample: Sample, rates: list[Rates], console: Console) -> RenderableType:
    """A line for each flow, in as many columns as the console has room for, and the losses."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Column, Table
    from rich.text import Text

    rows = [
        {
            "elapsed": Text("" if number else f"{elapsed:7.1f} s", "dim"),
            "name": Text(f"{flow.name:8}", "bold"),
            "rate": Text(f"{rate.datagrams:>10,.0f} datagrams/s", "bold cyan"),
            "bits": Text(f"{rate.bits / 1e6:>8,.1f} Mbit/s", "cyan"),
            "total": Text(f"{flow.datagrams:>11,} in all"),
            "brief_rate": Text(f"{rate.datagrams:>9,.0f}/s", "bold cyan"),
            "brief_total": Text(f"{flow.datagrams:>11,}"),
        }
        for number, (flow, rate) in enumerate(zip(sample.flows, rates, strict=True))
    ]

    def width(layout: list[str]) -> int:
        return sum(max(row[name].cell_len for row in rows) + _GAP for name in layout) - _GAP

    layout = next((layout for layout in _LAYOUTS if width(layout) <= console.width), _LAYOUTS[-1])
    columns = (Column(justify="left" if name == "name" else "right") for name in layout)
    table = Table.grid(*columns, padding=(0, _GAP, 0, 0))
    for row in rows:
        table.add_row(*(row[name] for name in layout))
    if not sample.losses:
        return table
    losses = [Text(f"{name} {count:,}", "bold red" if count else "dim") for name, count in sample.losses]
    indent = rows[0]["elapsed"].cell_len + _GAP if "elapsed" in layout else 0
    return Group(table, Padding(Columns(losses, padding=(0, 3)), (0, 0, 0, indent)))


def choose_display(
    *, quiet: bool = False, data_on_stdout: bool = False, stream: TextIO | None = None
) -> Display | None:
    """The display that fits: None if quiet; live on a terminal, unless the data goes to the same one; else lines."""
    stream = stream or sys.stderr
    if quiet:
        return None
    if not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return LineDisplay(stream)
    if data_on_stdout and sys.stdout.isatty():
        return SilentDisplay()
    return LiveDisplay(stream)


class SilentDisplay:
    """Nothing but the summary: the terminal is busy with the data."""

    interval = float("inf")

    def show(self, elapsed: float, sample: Sample, rates: list[Rates]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def in_bytes(number: int) -> str:
    """A size in decimal units: `316.0 MB`."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def announce(text: str, *, quiet: bool) -> None:
    """Say on standard error what begins, so that whoever started the command may go on."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)
