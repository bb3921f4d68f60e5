"""docs/performance.md and its charts, from what `make bench` kept: `python -m bench.performance [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench import charts
from bench.questions import QUESTIONS, STYLES, panels
from bench.report import Results, results_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.questions import Question
    from bench.report import Row

PAGE = Path("docs/performance.md")
CHARTS = Path("docs/performance")

_INTRODUCTION = """\
# Performance

Where mcastfast stands against what you would use instead, and against C, which is the limit. `make bench` measures
all of it on your machine, in private network namespaces, and `make performance` writes this page from what it kept.
Figures differ between machines and hours; the ratios differ less.
"""

_METHOD = """\
## How it is measured

Whatever is compared is measured together: round after round every contestant has one turn, in an order that is
shuffled each time. A cost is the median of the turns, a ratio the median of the ratios within each round. What takes
long has one turn: ten seconds of stalls, five each of pacing and idleness, and one search for each rate. The C
programs make the same system calls on the same sockets; they set up everything once and parse nothing. Peers run in
interpreters of their own, from PyPI, with their defaults but for the receive buffer, which is the same for all, and
for spead2 a pool of memory and a longer queue (4,096 heaps; 262,144 where the program stalls). How the interpreter was
compiled is part of every figure but C's: one without profile-guided optimisation, as tools leave it out that compile
Python on your machine, takes half as long again for what is Python, such as the slice in the table above.
"Offered", "received" and "dropped" stand beside every figure. In the costs of receiving and sending a turn that loses
a datagram is taken again, three times at most before the run fails, and the row says so; elsewhere a loss is part of
the answer and marked.

All of it ran on one machine: no cable, no switch and no network card had a part in it, and the kernel did the
sender's work and the receiver's on the same memory.
"""

_AIMS = """\
`rate` and `cost` are ratios to the contestant that is named. Nothing here fails a build: a figure depends on the
machine. In brackets behind a ratio is what half of the rounds lie between. "Held up" is the share of the time by which
gaps between paced datagrams were longer than twice the wanted one, because the machine had other work: a sender makes
up for an eleventh at most. Over a twentieth the run was repeated, up to twice.
"""

# What each question's figures are, and what they do not show.
_NOTES = {
    "receive": """\
A queue of up to 512 datagrams is in the socket already; what is timed is taking them out, on one processor, with
nothing else running. The sender used UDP_SEGMENT, so that they come as trains to a receiver that asks for those.

*Not shown*: what the kernel does before a datagram is in the socket; what waiting costs (below); what your program
does with the payload. Coalescing pays only where trains arrive: from a sender with UDP_SEGMENT, or a network card
that joins (GRO). spead2 also puts heaps together, which nobody else here does. "Heap grown before" is asyncio in a
process that once freed a large block, which changes how the C library serves its 256 KiB buffers.

Datagrams for the packet ring are sent one by one, in trains they would be cheaper still, and more of them, up to 24,576
behind 8,192 that are not timed: a process that starts to read finds its caches cold, some 40 µs on a machine with
neighbours, which is what a thousand datagrams of a ring cost. The others' figures include it, for 512. The kernel
writes them into full blocks of the ring (`Ring(delay=0.05)` is longer than one takes to fill) before the clock starts,
while the others' time includes the copy out of the socket.

Of 8972 bytes the loop in C over the ring is no limit: with few packets in a block it looks ahead less well than
mcastfast does.

"Iterating" makes an object of each datagram, as asyncio, uvloop and spead2 do and `recvfrom`; batches alone are what
columns, `records()` and `payloads()` work on.
""",
    "trains": """\
The same queue, in one process and by turns, for who asks for trains (UDP_GRO) and who does not. C and
`socket.recvmsg_into` take each train as it is, the one with the addresses and in calls for several, the other with the
size of its datagrams: to see one of them they have to be cut yet. mcastfast has cut them: each has its place, length
and source in the batch's columns.

*Not shown*: trains from elsewhere than this host, which are as long as the network card makes them.
""",
    "send": """\
Over lo to one member of the group that coalesces (UDP_GRO) and is emptied between the timed parts; the first call
after that is not timed, where another follows. The sender pays for the delivery too, as it does on any one machine. C
and `socket.send` have UDP_SEGMENT set once; the C limit, the arrays and the rows of `socket.send` are one buffer
already, lists are 64 `bytes` objects to be joined. What a call from Python costs shows at 64 rows: where system calls
are cheap, `socket.send` of one buffer is no nearer to C.

*Not shown*: a network card, which may cut trains by itself; a member that does not coalesce (the table that `make
bench` prints has it: then the kernel cuts, and the gain is less); payloads of different sizes, which leave without
trains.
""",
    "busy": """\
To a group that nobody joined, while another thread of the program runs a loop of Python. `socket.send` lets go of the
interpreter's lock in each call; where the other thread takes it, it comes back after 5 ms (sys.getswitchinterval).
mcastfast keeps it for a datagram or up to four trains, and each thread has 5 ms in turn.

*Not shown*: a send that has to wait, or is paced, which lets go of the lock as well; free-threaded Python, which has
none.
""",
    "untouched": """\
The first 512 datagrams of a receiver that was just opened, every batch kept, so that each goes into fresh memory. Once
a receiver uses its memory again, all of these are alike.

*Not shown*: how long opening takes, which is when `"prefault"` has the memory made; `"lock"`, which makes it too, and
keeps it from being swapped out: with enough memory that costs and gains nothing else.
""",
    "rate": """\
From one network namespace to another, each end on a processor of its own, the sender in trains of 32 so that it is
not the limit. The receiver runs without capabilities, with as much receive buffer as net.core.rmem_max allows. The
rate is searched by bisection, one second a probe; a rate counts as too high when it lost something twice. "The
sender's limit", in the chart ≥, means that what kept it from being faster is the sender, and no loss. The receive
thread coalesces, as it does by default, and the ring's reader gets the trains whole: both owe them most of their rate.

*Not shown*: longer than a second. A buffer hides a receiver that is a little too slow for as long as it lasts.
""",
    "latency": """\
The time of sending is in the datagram, and both ends read the same clock. Half a round trip: two processes of the
same kind, each waiting in its receive, and five such pairs of each in turn, since where a process lies in memory makes
a few hundredths; sockperf is its own client and server. The marks are the 50th, 90th, 99th and
99.9th percentile; the figure above is the 50th.

*Not shown*: a network. The upper percentiles are the machine's: interruptions by other work, and by the hypervisor
where there is one.
""",
    "processor": """\
User and system time of the receiving process, all of its threads, at a fixed rate of datagrams sent one by one. At
this rate the receiver sleeps and wakes often, which is most of the cost.

*Not shown*: the sender's part, which includes the kernel's delivery on this machine, and with it the copy into the
packet ring. A contestant that lost datagrams is charged for those that it received.
""",
    "stall": """\
256-byte datagrams for ten seconds; the program holds the interpreter's lock in a Python loop for one second in every
two. Everyone runs without capabilities, but for the packet ring, which needs one. It has 64 MiB, of which the kernel
fills each block (`Ring(delay=0.01)`), and the background thread 256 MiB. "Counted" is what the receiver itself says
that it lost.

*Not shown*: stalls that last longer than the queue.
""",
}


def page(results: Results) -> str:
    """Return the text of docs/performance.md."""
    parts = [_INTRODUCTION, "## The machine\n\n" + _machine(results)]
    for question in QUESTIONS:
        rows = _rows(question, results)
        if rows:
            parts.append(_section(question, rows, results))
    parts += ["## What was aimed for\n\n" + _targets(results.rows), _METHOD]
    return "\n".join(parts)


def _machine(results: Results) -> str:
    lines = [*(f"| {name} | {value} |" for name, value in results.machine.items())]
    text = "| | |\n|---|---|\n" + "\n".join(lines) + "\n"
    if results.missing:
        text += "\nNot measured: " + "; ".join(f"{name}, {why}" for name, why in results.missing.items()) + ".\n"
    return text


def _rows(question: Question, results: Results) -> list[Row]:
    """Return the rows behind a question's chart, in the order in which they are shown."""
    works = [panel.work for panel in panels(question, results.rows)]
    order = list(STYLES)
    rows = [row for row in results.rows if row.work in works]
    return sorted(rows, key=lambda row: (works.index(row.work), order.index(row.contestant)))


def _section(question: Question, rows: Sequence[Row], results: Results) -> str:
    figure = f"![{question.title}]({CHARTS.name}/{question.slug}.svg)"
    tables = []
    for panel in panels(question, results.rows):
        own = [row for row in rows if row.work == panel.work]
        tables.append(f"**{panel.title}**\n\n" + "\n".join(_table(question, own)) + "\n")
    return "\n".join([f"## {question.title}\n", figure + "\n", _NOTES[question.slug], *tables])


def _table(question: Question, rows: Sequence[Row]) -> Iterator[str]:
    headings = ["", *_figure_headings(question), "offered", "received", "dropped", ""]
    yield "| " + " | ".join(headings) + " |"
    yield "|---|" + "---:|" * (len(headings) - 2) + "---|"
    for row in rows:
        cells = [STYLES[row.contestant].label, *_figures(question, row), *_counts(row), row.note]
        yield "| " + " | ".join(cells) + " |"


def _counts(row: Row) -> list[str]:
    return [f"{count:,}" if row.offered else "" for count in (row.offered, row.received, row.dropped)]


def _figure_headings(question: Question) -> list[str]:
    match question.kind:
        case "percentiles":
            return ["p50", "p90", "p99", "p99.9"]
        case "rate":
            return ["datagrams a second"]
        case "share":
            return ["lost"]
        case "time":
            return ["each", "rate, C is 1"]


def _figures(question: Question, row: Row) -> list[str]:
    if question.kind == "percentiles":
        return [f"{nanoseconds / 1000:,.1f} µs" for nanoseconds in row.percentiles.values()]
    if question.kind == "time":
        return [row.shown, "" if row.of_limit is None else f"{row.of_limit:.3f}"]
    return [row.shown]


def _targets(rows: Sequence[Row]) -> str:
    lines = [
        "| work | who | aim | reached | | offered | received | dropped | |",
        "|---|---|---|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        if row.reached is not None:
            verdict = "yes" if row.reached else "**no**"
            cells = [row.work, row.contestant, row.target, row.figure, verdict, *_counts(row), row.note]
            lines.append("| " + " | ".join(cells) + " |")
    return _AIMS + "\n" + "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    file = results_file(arguments, "bench.performance")
    results = Results.load(file)
    unanswered = [question.title for question in QUESTIONS if not panels(question, results.rows)]
    if unanswered:
        raise SystemExit(f"bench.performance: {file} does not answer {unanswered[0]!r}: run all of `make bench`")
    with TemporaryDirectory() as directory:
        for drawn in charts.draw(results, Path(directory)):
            if drawn.suffix == ".svg":
                CHARTS.mkdir(exist_ok=True)
                (CHARTS / drawn.name).write_bytes(drawn.read_bytes())
    PAGE.write_text(page(results))
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
