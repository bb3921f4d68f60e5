"""The table: every contestant of every work, its cost, the C limit beside it, targets and losses.

`python -m bench.report [FILE]` prints it from what `make bench` kept.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from bench.targets import shown_time

if TYPE_CHECKING:
    from collections.abc import Sequence


Unit = Literal["ns", "/s", "%"]

DIRECTORY = Path("build/bench")
RESULTS = DIRECTORY / "results.json"
PART = DIRECTORY / "part.json"
"""Of a run in which not all benchmarks ran, or not all passed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant of one work.

    cost: nanoseconds per unit of work; where the unit is "/s" it is shown as a rate, and "%" is a share of 1. of_limit:
    rate divided by the C limit's rate. percentiles: nanoseconds by name ("99.9"). is_bound: what set the figure is not
    the contestant, which can do more.
    """

    work: str
    contestant: str
    cost: float
    of_limit: float | None
    target: str
    figure: str
    reached: bool | None
    offered: int
    received: int
    dropped: int
    unit: Unit = "ns"
    percentiles: dict[str, float] = field(default_factory=dict)
    note: str = ""
    is_bound: bool = False

    @property
    def shown(self) -> str:
        match self.unit:
            case "ns":
                return shown_time(self.cost)
            case "/s":
                return f"{'≥ ' * self.is_bound}{1e9 / self.cost:,.0f}/s"
            case "%":
                return f"{self.cost:.3%}"


@dataclass(frozen=True, slots=True)
class Results:
    """All of one run: the machine block, the contestants that were missing and why, the rows."""

    machine: dict[str, str]
    missing: dict[str, str]
    rows: list[Row]

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> Results:
        kept = json.loads(file.read_text())
        return cls(kept["machine"], kept["missing"], [Row(**row) for row in kept["rows"]])


def is_whole(arguments: Sequence[str], exitstatus: int, *, left_out: bool) -> bool:
    """Whether a session of pytest with these files ran all benchmarks, and all passed; left_out: some were."""
    everything = [Path(argument).resolve() for argument in arguments] == [Path(__file__).parent]
    return everything and exitstatus == 0 and not left_out


# How works are named, in the order in which they are shown.
WORKS = (
    "recv",
    "recvmeta",
    "trains",
    "apart",
    "held",
    "records",
    "untouched",
    "lone",
    "wait",
    "send",
    "member",
    "plainmember",
    "busy",
    "pace",
    "loops",
    "rate",
    "processor",
    "oneway",
    "pingpong",
    "stall",
    "idle",
    "steady",
    "import",
)


def table(rows: Sequence[Row]) -> Table:
    verdicts = [row.reached for row in rows if row.reached is not None]
    made = Table(
        title="mcastfast, the C limit and the peers: medians of interleaved rounds, time per datagram",
        caption=f"targets reached: {sum(verdicts)} of {len(verdicts)}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("work", "who"):
        made.add_column(heading, no_wrap=True)
    for heading in ("each", "rate/C"):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("target")
    for heading in ("figure", "reached", "offered", "received", "dropped"):
        made.add_column(heading, justify="right")
    made.add_column("note")
    ordered = sorted(rows, key=lambda row: WORKS.index(row.work.partition("-")[0]))
    for work, group in groupby(ordered, key=lambda row: row.work):
        made.add_section()
        for number, row in enumerate(group):
            made.add_row(
                "" if number else work,
                row.contestant,
                row.shown,
                "" if row.of_limit is None else f"{row.of_limit:.3f}",
                row.target,
                row.figure,
                {None: "", True: "[green]yes[/green]", False: "[red]no[/red]"}[row.reached],
                *(f"{count:,}" if row.offered else "" for count in (row.offered, row.received, row.dropped)),
                row.note,
            )
    return made


def print_table(rows: Sequence[Row]) -> None:
    console = Console()
    if not console.is_terminal:  # a pipe has no width: let no cell be cut
        console.width = 200
    console.print(table(rows))


def results_file(arguments: Sequence[str], program: str) -> Path:
    """Return the file of kept results that a command line names; SystemExit says what is wrong with it."""
    if len(arguments) > 1:
        raise SystemExit(f"usage: python -m {program} [FILE]")
    file = Path(arguments[0]) if arguments else RESULTS
    if not file.exists():
        raise SystemExit(f"{program}: {file} does not exist; `make bench` writes {RESULTS}")
    return file


def main(arguments: Sequence[str]) -> int:
    print_table(Results.load(results_file(arguments, "bench.report")).rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
