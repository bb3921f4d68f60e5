"""The table: every contestant of every work, its cost, the C limit beside it, targets and losses.

`python -m bench.report FILE` prints it from what --benchmark-json or --benchmark-autosave kept.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from bench.targets import shown_time

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant of one work. cost: nanoseconds per unit; of_limit: rate divided by the C limit's rate."""

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


# How works are named, in the order in which they are shown.
WORKS = ("recv", "recvmeta", "held", "records", "lone", "wait", "send", "loops", "steady", "import")


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
    ordered = sorted(rows, key=lambda row: WORKS.index(row.work.partition("-")[0]))
    for work, group in groupby(ordered, key=lambda row: row.work):
        made.add_section()
        for number, row in enumerate(group):
            made.add_row(
                "" if number else work,
                row.contestant,
                shown_time(row.cost),
                "" if row.of_limit is None else f"{row.of_limit:.3f}",
                row.target,
                row.figure,
                {None: "", True: "[green]yes[/green]", False: "[red]no[/red]"}[row.reached],
                *(f"{count:,}" if row.offered else "" for count in (row.offered, row.received, row.dropped)),
            )
    return made


def print_table(rows: Sequence[Row]) -> None:
    console = Console()
    if not console.is_terminal:  # a pipe has no width: let no cell be cut
        console.width = 160
    console.print(table(rows))


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m bench.report FILE", file=sys.stderr)
        return 2
    kept = json.loads(Path(arguments[0]).read_text())
    print_table([Row(**entry["extra_info"]["row"]) for entry in kept["benchmarks"]])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
