"""One chart a question, as SVG and PNG: `python -m bench.charts [FILE]` draws them again from what was kept."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bench.questions import QUESTIONS, STYLES, panels
from bench.report import Results, results_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.questions import Bar, Panel, Question

COLOURS = {
    "c": "#7f7f7f",
    "mcastfast": "#1f5fa8",
    "socket": "#3a923a",
    "uvloop": "#e08214",
    "asyncio": "#c0504d",
    "multicast_expert": "#8064a2",
    "spead2": "#8c6d31",
    "sockperf": "#2aa198",
}
LOSS = "#d00000"
MARKERS = {"50": "o", "90": "s", "99": "^", "99.9": "D"}

_BAR_HEIGHT = 0.30  # inches
_PANEL_WIDTH = {1: 7.0, 2: 4.2, 3: 3.4, 4: 2.6}  # inches, by the number of panels
_LABEL_WIDTH = 2.9  # inches


def draw(results: Results, directory: Path) -> list[Path]:
    """Draw what was measured into the directory; return the files."""
    import matplotlib as mpl

    mpl.use("agg")
    # Text stays text, and two drawings of the same figures are the same file.
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "mcastfast", "font.size": 9, "font.family": "sans-serif"}
    )
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for question in QUESTIONS:
        if shown := panels(question, results.rows):
            figure = _figure(question, shown, results)
            for suffix in ("svg", "png"):
                file = directory / f"{question.slug}.{suffix}"
                figure.savefig(file, dpi=110, metadata={"Date": None} if suffix == "svg" else None)
                drawn.append(file)
    return drawn


def _figure(question: Question, shown: Sequence[Panel], results: Results) -> Any:
    from matplotlib.figure import Figure

    present = {bar.label for panel in shown for bar in panel.bars}
    labels = [style.label for style in STYLES.values() if style.label in present]
    limits = _limits(question, [bar for panel in shown for bar in panel.bars])
    rows = len(labels)
    width = _LABEL_WIDTH + _PANEL_WIDTH[len(shown)] * len(shown)
    height = rows * _BAR_HEIGHT + 1.6
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    figure.subplots_adjust(
        left=_LABEL_WIDTH / width, right=1 - 0.15 / width, top=1 - 0.85 / height, bottom=0.75 / height, wspace=0.06
    )
    figure.suptitle(question.title, x=0.5, y=1 - 0.25 / height, fontsize=13, fontweight="bold")
    for number, (ax, panel) in enumerate(zip(axes, shown, strict=True)):
        _panel(ax, question, panel, labels)
        if question.logarithmic:
            ax.set_xscale("log")
        ax.set_xlim(*limits)
        ax.set_title(panel.title, fontsize=9)
        ax.set_yticks(range(rows), labels if number == 0 else [""] * rows)
        ax.set_ylim(rows - 0.4, -0.6)
    figure.supxlabel(question.axis, fontsize=9, x=(_LABEL_WIDTH + (width - _LABEL_WIDTH) / 2) / width, y=0.3 / height)
    if question.kind == "percentiles":
        handles = [axes[0].plot([], [], mark, color="#444444", label=f"p{name}")[0] for name, mark in MARKERS.items()]
        figure.legend(handles=handles, ncols=4, loc="lower left", frameon=False, bbox_to_anchor=(0, 0.2 / height))
    figure.text(0.1 / width, 0.08 / height, _footnote(results), fontsize=6.5, color="#555555")
    return figure


def _panel(ax: Any, question: Question, panel: Panel, labels: list[str]) -> None:
    bars = panel.bars
    ax.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if question.kind == "percentiles":
        _percentiles(ax, bars, labels)
        return
    for bar in bars:
        lossy = bar.lost > 0
        at = labels.index(bar.label)
        ax.barh(
            at,
            bar.value,
            height=0.7,
            color=COLOURS[bar.family],
            edgecolor=LOSS if lossy else "none",
            hatch="///" if lossy else None,
        )
        text = bar.text
        if lossy and question.kind != "share":
            text += f" (lost {100 * bar.lost:.2g} %)"
        ax.annotate(
            text,
            (bar.value, at),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=LOSS if lossy else "black",
        )


def _percentiles(ax: Any, bars: Sequence[Bar], labels: list[str]) -> None:
    for bar in bars:
        at, colour = labels.index(bar.label), COLOURS[bar.family]
        values = [value for _, value in bar.percentiles]
        ax.plot([min(values), max(values)], [at, at], color=colour, linewidth=1.5)
        for name, value in bar.percentiles:
            ax.plot(value, at, MARKERS[name], color=colour, markersize=5)
        text = f"{bar.text}" + (f" (lost {100 * bar.lost:.2g} %)" if bar.lost else "")
        ax.annotate(
            text,
            (values[0], at),
            xytext=(0, 4.5),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            color=LOSS if bar.lost else "black",
        )


def _limits(question: Question, bars: Sequence[Bar]) -> tuple[float, float]:
    """Return the ends of the axis, the same for all panels: with room for the figures behind the bars."""
    values = [bar.value for bar in bars] + [value for bar in bars for _, value in bar.percentiles]
    if question.kind == "share":
        return 0, 115
    if question.kind == "percentiles":
        return min(values) / 1.5, max(values) * 1.5
    if question.logarithmic:
        return min(values) / 2, max(values) * 6
    return 0, max(values) * 1.35


def _footnote(results: Results) -> str:
    machine = results.machine
    note = f"{machine['processor']}; {machine['kernel']}; {machine['Python']}; {machine['date']}."
    if results.missing:
        note += " Not measured: " + "; ".join(f"{name}, {why}" for name, why in results.missing.items()) + "."
    return note


def main(arguments: Sequence[str]) -> int:
    file = results_file(arguments, "bench.charts")
    for drawn in draw(Results.load(file), file.parent):
        print(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
