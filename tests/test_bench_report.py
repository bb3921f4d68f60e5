"""What is made of the benchmarks' rows: kept results, the questions' panels, docs/performance.md, sockperf's report."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))  # `python -m pytest` has it there, `pytest` has not
from bench.performance import page
from bench.questions import QUESTIONS, STYLES, panels
from bench.report import WORKS, Results, Row, results_file, table
from bench.sockperf import counts_in, percentiles_in

QUESTION = {question.slug: question for question in QUESTIONS}
MACHINE = {"date": "today", "processor": "Zx80, 1 cores", "kernel": "Linux", "Python": "CPython 3"}


def row(work: str, contestant: str, cost: float = 100.0, *, offered: int = 1000, dropped: int = 0) -> Row:
    return Row(work, contestant, cost, 0.5, "", "", None, offered, offered - dropped, dropped)


def results(*rows: Row, missing: dict[str, str] | None = None) -> Results:
    return Results(MACHINE, missing or {}, list(rows))


def test_kept_results_are_read_back_as_they_were(tmp_path: Path) -> None:
    timed = replace(row("oneway-veth-256B-10k", "c"), percentiles={"50": 1.5, "99.9": 20.0}, note="so so")
    kept = results(timed, row("import", "socket"), missing={"spead2": "not installed"})
    kept.save(tmp_path / "new" / "results.json")
    assert Results.load(tmp_path / "new" / "results.json") == kept


@pytest.mark.parametrize(
    ("arguments", "problem"), [(["a", "b"], "usage: "), (["missing.json"], "missing.json does not")]
)
def test_a_command_line_without_results_says_what_is_wrong(arguments: list[str], problem: str) -> None:
    with pytest.raises(SystemExit, match=problem):
        results_file(arguments, "bench.report")


@pytest.mark.parametrize(
    ("unit", "cost", "shown"), [("ns", 1234.5, "1,234.5 ns"), ("/s", 2000.0, "500,000/s"), ("%", 0.0625, "6.250%")]
)
def test_a_row_shows_its_cost_in_its_unit(unit: str, cost: float, shown: str) -> None:
    assert replace(row("loops-v4-64B", "c", cost), unit=unit).shown == shown  # type: ignore[arg-type]


def test_every_work_of_a_question_has_a_place_in_the_table() -> None:
    beginnings = [beginning for question in QUESTIONS for beginning, _ in question.panels]
    assert {beginning.partition("-")[0] for beginning in beginnings} <= set(WORKS)
    assert table([row(f"{beginning}x", "c") for beginning in beginnings]).row_count == len(beginnings)


def test_a_panel_shows_its_work_in_the_order_of_the_styles_whatever_the_order_of_the_rows() -> None:
    rows = [row("loops-v4-64B", name) for name in reversed(STYLES)] + [row("loops-v4-256B", "c", 7.0)]
    first, second = panels(QUESTION["receive"], rows)
    assert (first.work, second.work) == ("loops-v4-64B", "loops-v4-256B")
    assert [bar.label for bar in first.bars] == [style.label for style in STYLES.values()]
    assert [(bar.value, bar.text) for bar in second.bars] == [(7.0, "7")]


def test_labels_tell_all_contestants_apart() -> None:
    assert len({style.label for style in STYLES.values()}) == len(STYLES)


def test_a_rate_is_the_inverse_of_the_cost() -> None:
    (panel,) = panels(QUESTION["rate"], [row("rate-veth-256B", "c", 2000.0)])
    assert [(bar.value, bar.text) for bar in panel.bars] == [(500_000.0, "500,000")]


def test_processor_time_is_seconds_per_million() -> None:
    (panel,) = panels(QUESTION["processor"], [row("processor-veth-256B-50k", "c", 4000.0)])
    assert [bar.value for bar in panel.bars] == [4.0]


def test_a_loss_is_a_share_of_what_was_offered() -> None:
    (panel,) = panels(QUESTION["processor"], [row("processor-veth-256B-50k", "c", dropped=250)])
    assert [bar.lost for bar in panel.bars] == [0.25]


def test_the_small_buffer_and_the_granted_one_are_panels_of_their_own() -> None:
    works = ("stall-veth-256B-100k-8388608", "stall-veth-256B-100k-212992")
    small, granted = panels(QUESTION["stall"], [row(work, "recv_into", 0.5) for work in works])
    assert (small.work, granted.work) == (works[1], works[0])
    assert [bar.value for bar in granted.bars] == [50.0]


def test_a_question_that_nothing_answers_has_no_panel() -> None:
    assert panels(QUESTION["rate"], [row("import", "socket")]) == []


def test_the_page_shows_machine_counts_and_what_was_missing() -> None:
    text = page(
        results(
            row("loops-v4-64B", "recv_into", 1046.6, offered=83_968),
            replace(row("rate-veth-256B", "c", 2000.0), unit="/s", note="the sender's limit"),
            replace(row("recv-v4-256B", "batch64-socket"), target="rate >= 1 x c", figure="0.5", reached=False),
            missing={"sockperf": "not on PATH"},
        )
    )
    assert "| processor | Zx80, 1 cores |" in text
    assert "| socket.recv_into | 1,046.6 ns | 0.500 | 83,968 | 83,968 | 0 |  |" in text
    assert "| C: the limit | 500,000/s | 1,000 | 1,000 | 0 | the sender's limit |" in text
    assert "| recv-v4-256B | batch64-socket | rate >= 1 x c | 0.5 | **no** |" in text
    assert "Not measured: sockperf, not on PATH." in text


REPORT = """\
sockperf: [Total Run] RunTime=1.001 sec; Warm up time=400 msec; SentMessages=47673; ReceivedMessages=47672
sockperf: [Valid Duration] RunTime=0.550 sec; SentMessages=26308; ReceivedMessages=26307
sockperf: ---> <MAX> observation =  909.570
sockperf: ---> percentile 99.999 =  909.570
sockperf: ---> percentile 99.900 =  207.498
sockperf: ---> percentile 99.000 =  102.266
sockperf: ---> percentile 90.000 =   10.749
sockperf: ---> percentile 50.000 =    7.694
"""


def test_sockperfs_microseconds_become_nanoseconds() -> None:
    assert percentiles_in(REPORT) == pytest.approx({"50": 7694, "90": 10749, "99": 102266, "99.9": 207498})
    assert counts_in(REPORT) == (26308, 26307)


def test_a_report_of_sockperf_without_figures_is_an_error_that_shows_it() -> None:
    with pytest.raises(RuntimeError, match="no percentile 50:\nsockperf: nothing"):
        percentiles_in("sockperf: nothing")
    with pytest.raises(RuntimeError, match="no counts"):
        counts_in("sockperf: nothing")
