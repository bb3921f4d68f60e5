"""What a user asks, which works answer it, and how the contestants are called there.

Charts and docs/performance.md show these; the printed table shows every work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report import Row


@dataclass(frozen=True, slots=True)
class Style:
    """How a contestant is shown: its name, and the family that gives it its colour."""

    label: str
    family: str


@dataclass(frozen=True, slots=True)
class Question:
    """One chart: a panel for each work, by the work's beginning and the panel's title."""

    slug: str
    title: str
    axis: str
    kind: Literal["time", "rate", "share", "percentiles"]
    panels: tuple[tuple[str, str], ...]
    # Of the axis, in nanoseconds.
    scale: float = 1.0

    @property
    def logarithmic(self) -> bool:
        return self.axis.endswith("logarithmic")


@dataclass(frozen=True, slots=True)
class Bar:
    """One contestant in one panel. value: in the axis's unit; lost: share of what was offered."""

    label: str
    family: str
    value: float
    text: str
    lost: float
    percentiles: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """One work's bars, in the order in which the contestants are shown."""

    work: str
    title: str
    bars: tuple[Bar, ...]


_SIZES = ("64", "256", "1400", "8972")

QUESTIONS = (
    Question(
        "receive",
        "What does it cost to receive a datagram?",
        "nanoseconds per datagram, logarithmic",
        "time",
        tuple((f"loops-v4-{size}B", f"{size} bytes") for size in _SIZES),
    ),
    Question(
        "trains",
        "What does a datagram cost that came in a train?",
        "nanoseconds per datagram, logarithmic",
        "time",
        tuple((f"trains-v4-{size}B", f"{size} bytes") for size in ("64", "256", "1400")),
    ),
    Question(
        "send",
        "What does it cost to send a datagram?",
        "nanoseconds per datagram, logarithmic",
        "time",
        tuple((f"member-v4-{size}B", f"{size} bytes") for size in _SIZES),
    ),
    Question(
        "busy",
        "What does a send cost while another thread runs Python?",
        "nanoseconds per datagram, logarithmic",
        "time",
        (("busy-v4-256B", "256 bytes"),),
    ),
    Question(
        "untouched",
        "What does memory cost that nobody has written to yet?",
        "nanoseconds per datagram",
        "time",
        (("untouched-v4-256B", "256 bytes"), ("untouched-v4-1400B", "1400 bytes")),
    ),
    Question(
        "rate",
        "Which rate is received without loss?",
        "datagrams per second, logarithmic",
        "rate",
        (("rate-veth-256B", "256 bytes, over a veth pair"),),
    ),
    Question(
        "latency",
        "How long is a datagram under way?",
        "microseconds, logarithmic",
        "percentiles",
        (
            ("oneway-veth-256B-10k", "one way at 10 thousand/s, veth"),
            ("pingpong-veth-256B", "half a round trip, veth"),
            ("pingpong-lo-256B", "half a round trip, lo"),
        ),
        scale=1e3,
    ),
    Question(
        "processor",
        "How much processor time do 50 thousand datagrams a second take?",
        "processor seconds per million datagrams received",
        "time",
        (("processor-veth-256B-50k", "256 bytes, over a veth pair"),),
        scale=1e3,
    ),
    Question(
        "stall",
        "What is lost when the program is busy for one second in every two?",
        "% lost of 100 thousand datagrams a second",
        "share",
        (
            ("stall-veth-256B-100k-212992", "212,992 bytes of receive buffer granted"),
            ("stall-veth-256B-100k-", "as much as net.core.rmem_max allows"),
        ),
    ),
)

# In the order in which they are shown.
STYLES = {
    "c": Style("C: the limit", "c"),
    "c-trains": Style("C, UDP_GRO: the limit", "c"),
    "c-ring": Style("C, packet ring: the limit", "c"),
    "batch64-c-trains": Style("C, UDP_SEGMENT, 64 rows: the limit", "c"),
    "batch512-c-trains": Style("C, UDP_SEGMENT, 512 rows: the limit", "c"),
    "batch64-c-gathered-trains": Style("C, UDP_SEGMENT, 64 that lie apart", "c"),
    "batch64-c": Style("C, sendmmsg", "c"),
    "packet": Style("mcastfast, packet ring", "mcastfast"),
    "packet-each": Style("mcastfast, packet ring, iterating", "mcastfast"),
    "coalescing-socket": Style("mcastfast, coalesce=True", "mcastfast"),
    "coalescing-socket-each": Style("mcastfast, coalesce=True, iterating", "mcastfast"),
    "background-socket": Style("mcastfast, background thread", "mcastfast"),
    "spinning-socket": Style("mcastfast, spin", "mcastfast"),
    "socket": Style("mcastfast", "mcastfast"),
    "socket-each": Style("mcastfast, iterating", "mcastfast"),
    "portable": Style("mcastfast, portable engine", "mcastfast"),
    "huge-socket": Style('mcastfast, memory="huge"', "mcastfast"),
    "prefaulted-socket": Style('mcastfast, memory="prefault"', "mcastfast"),
    "prefaulted-huge-socket": Style('mcastfast, memory=["prefault", "huge"]', "mcastfast"),
    "rows512-socket-trains": Style("mcastfast, array of 512 rows", "mcastfast"),
    "rows64-socket-trains": Style("mcastfast, array of 64 rows", "mcastfast"),
    "batch64-socket-trains": Style("mcastfast, list of 64", "mcastfast"),
    "batch64-socket": Style("mcastfast, list of 64, no trains", "mcastfast"),
    "batch64-portable": Style("mcastfast, list of 64, portable engine", "mcastfast"),
    "batch1-socket": Style("mcastfast, send", "mcastfast"),
    "rows64-send": Style("socket.send, 64 rows, UDP_SEGMENT", "socket"),
    "batch64-send-joined": Style("socket.send, 64 joined, UDP_SEGMENT", "socket"),
    "batch1-send": Style("socket.send", "socket"),
    "recvmsg_into-trains": Style("socket.recvmsg_into, UDP_GRO", "socket"),
    "recv_into": Style("socket.recv_into", "socket"),
    "recvfrom_into": Style("socket.recvfrom_into", "socket"),
    "recvfrom": Style("socket.recvfrom", "socket"),
    "uvloop": Style("uvloop", "uvloop"),
    "asyncio": Style("asyncio", "asyncio"),
    "asyncio-grown-heap": Style("asyncio, heap grown before", "asyncio"),
    "multicast_expert": Style("multicast_expert", "multicast_expert"),
    "spead2": Style("spead2 (SPEAD framing)", "spead2"),
    "sockperf": Style("sockperf (C++)", "sockperf"),
}


def panels(question: Question, rows: Sequence[Row]) -> list[Panel]:
    """Return what a question's chart shows, without the panels that nothing was measured for."""
    made = []
    taken: set[str] = set()
    for beginning, title in question.panels:
        # The more particular beginning stands first.
        work = next((row.work for row in rows if row.work.startswith(beginning) and row.work not in taken), None)
        if work is None:
            continue
        taken.add(work)
        found = {row.contestant: row for row in rows if row.work == work}
        made.append(Panel(work, title, tuple(_bar(question, found[name]) for name in STYLES if name in found)))
    return made


def _bar(question: Question, row: Row) -> Bar:
    style = STYLES[row.contestant]
    lost = row.dropped / row.offered if row.offered else 0.0
    match question.kind:
        case "rate":
            value = 1e9 / row.cost
            text = f"{'≥ ' * row.is_bound}{value:,.0f}"
        case "share":
            value = 100 * row.cost
            text = f"{value:.3g} %"
        case "time" | "percentiles":
            value = row.cost / question.scale
            text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    percentiles = tuple((name, nanoseconds / question.scale) for name, nanoseconds in row.percentiles.items())
    return Bar(style.label, style.family, value, text, lost, percentiles)
