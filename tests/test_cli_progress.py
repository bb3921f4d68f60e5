"""What runs is shown live on a terminal and line by line elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest
from clilab import COMMAND, TIMEOUT
from rich.console import Console

from mcastfast import Sender
from mcastfast.commands.progress import Flow, LineDisplay, Progress, Rates, Sample, _render, in_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Lan, Namespace

GROUP = "239.1.2.3:5000"
_STYLE = re.compile(r"\x1b\[[\d;]*m")
_CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


class Terminal:
    """A command on a pseudo terminal."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.screen = ""

    def wait_for(self, pattern: str) -> str:
        """Read until the text, without its styles, matches; the match."""
        while not (match := re.search(pattern, self.text)):
            try:
                self.screen += os.read(self._descriptor, 4096).decode()
            except OSError:  # EIO: the other end was closed
                raise AssertionError(f"no {pattern!r} in {self.screen!r}") from None
        return match[0]

    @property
    def text(self) -> str:
        return _STYLE.sub("", self.screen)


@contextlib.contextmanager
def on_terminal(namespace: Namespace, *args: str, columns: int = 120, term: str = "xterm") -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": term, "COLUMNS": str(columns)}
    with namespace:
        process = subprocess.Popen([*COMMAND, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    with process:
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.needs("namespaces")
def test_terminal_shows_a_live_rate_and_in_the_end_the_summary(lan: Lan) -> None:
    with on_terminal(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name) as terminal:
        terminal.wait_for("joined")
        with lan.sender.namespace, Sender(GROUP, interface=lan.sender.name) as sender:
            sender.send_batch([b"x" * 100] * 50)
        terminal.wait_for(r"received +[\d,]+ datagrams/s +\d\.\d Mbit/s +50 in all")
        terminal.wait_for("kernel drops 0   foreign 0   truncated 0")
        assert "\x1b[?25l" in terminal.screen  # the cursor is hidden
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for(
            r"received 50 datagrams, 5\.0 kB in \d+\.\d s[^\n]*\r\nkernel drops 0, foreign 0, truncated 0"
        )
        assert terminal.process.wait(TIMEOUT) == 0
        assert terminal.screen.rindex("\x1b[?25h") > terminal.screen.rindex("\x1b[?25l")


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, r"\d\.\d s  received +[\d,]+ datagrams/s +\d\.\d Mbit/s +50 in all"),
        (60, r"\nreceived +[\d,]+ datagrams/s +50 in all"),
        (40, r"\nreceived +[\d,]+/s +50\r"),
    ],
)
def test_a_line_that_is_renewed_fits_the_terminal(lan: Lan, columns: int, line: str) -> None:
    with on_terminal(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, columns=columns) as terminal:
        terminal.wait_for("joined")
        with lan.sender.namespace, Sender(GROUP, interface=lan.sender.name) as sender:
            sender.send_batch([b"x" * 100] * 50)
        terminal.wait_for(r" 50( in all)?\r\n")
        assert re.search(line, _CONTROL.sub("", terminal.screen))
        _, *renewed = _CONTROL.sub("", terminal.screen).splitlines()
        assert max(map(len, renewed)) <= columns


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            80,
            [
                "  123.0 s  received  10,000,000 datagrams/s   8,000.0 Mbit/s  999,999,999 in all",
                "           sent               1 datagrams/s       0.0 Mbit/s            1 in all",
                "           kernel drops 0   device queue full 7   late errors 0",
            ],
        ),
        (
            40,
            [
                "received  10,000,000/s  999,999,999",
                "sent               1/s            1",
                "kernel drops 0   device queue full 7",
                "late errors 0",
            ],
        ),
    ],
)
def test_large_numbers_fit_too(columns: int, lines: list[str]) -> None:
    console = Console(file=io.StringIO(), width=columns, highlight=False)
    flows = Flow("received", 999_999_999, 10**12), Flow("sent", 1, 1)
    losses = ("kernel drops", 0), ("device queue full", 7), ("late errors", 0)
    with console.capture() as shown:
        console.print(_render(123.0, Sample(flows, losses), [Rates(1e7, 8e9), Rates(1.0, 8.0)], console))
    assert [line.rstrip() for line in shown.get().splitlines()] == lines


@pytest.mark.needs("namespaces")
def test_terminal_shows_what_a_check_counts(lan: Lan) -> None:
    with on_terminal(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, "--check") as terminal:
        terminal.wait_for("joined")
        with lan.sender.namespace, Sender(GROUP, interface=lan.sender.name) as sender:
            sender.send_batch([number.to_bytes(8, "big") for number in (0, 1, 3)])
        terminal.wait_for("truncated 0   lost 1   doubled 0   late 0")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(TIMEOUT) == 1


@pytest.mark.needs("namespaces")
def test_data_on_the_same_terminal_is_not_disturbed(lan: Lan) -> None:
    with on_terminal(lan.receiver.namespace, "recv", GROUP, "-i", lan.receiver.name, "--hex", "-c", "1") as terminal:
        terminal.wait_for("joined")
        with lan.sender.namespace, Sender(GROUP, interface=lan.sender.name) as sender:
            sender.send(b"hello")
        terminal.wait_for(r"\|hello\|")
        terminal.wait_for("received 1 datagram, 5 B")
        assert "\x1b" not in terminal.screen


@pytest.mark.needs("namespaces")
def test_dumb_terminal_gets_lines(lan: Lan) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name)
    with on_terminal(lan.receiver.namespace, *args, term="dumb") as terminal:
        terminal.wait_for(r" 1\.\d s   received           0 .* truncated 0\r\n")
        assert "\x1b" not in terminal.screen


@pytest.mark.needs("namespaces")
def test_table_has_a_bold_head_on_a_terminal(lan: Lan) -> None:
    with on_terminal(lan.receiver.namespace, "interfaces") as terminal:
        terminal.wait_for(r"lo +65536")
        assert terminal.screen.startswith("\x1b[1mINDEX")


def test_line_has_rates_of_the_time_since_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    now = 50.0
    monkeypatch.setattr("mcastfast.commands.progress.time.monotonic", lambda: now)
    datagrams = 1000

    def read() -> Sample:
        return Sample((Flow("received", datagrams, datagrams * 100),), (("kernel drops", 2),))

    with Progress(read, LineDisplay(stream), stream=stream) as progress:
        progress.tick(active=True)
        now, datagrams = 51.0, 3000
        progress.tick(active=True)
        now, datagrams = 52.0, 3500
        progress.tick(active=True)
        now = 53.5
    assert stream.getvalue().splitlines() == [
        "    1.0 s   received       3,000      2,000 datagrams/s      1.6 Mbit/s   kernel drops 2",
        "    2.0 s   received       3,500        500 datagrams/s      0.4 Mbit/s   kernel drops 2",
        "received 2,500 datagrams, 250.0 kB in 3.5 s: 1,250 datagrams/s, 1.0 Mbit/s",
        "kernel drops 2",
    ]


def test_the_rate_of_the_summary_is_that_after_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of 64 at a time, every 64 ms from 0.3 s on: 1000 datagrams a second, however short it was."""
    stream = io.StringIO()
    now = 50.0
    monkeypatch.setattr("mcastfast.commands.progress.time.monotonic", lambda: now)
    datagrams = 0

    def read() -> Sample:
        return Sample((Flow("sent", datagrams, datagrams * 100),))

    with Progress(read, LineDisplay(stream), stream=stream) as progress:
        now += 0.3
        for _ in range(2):
            datagrams += 64
            progress.tick(active=True)
            now += 0.064
    assert stream.getvalue() == "sent 128 datagrams, 12.8 kB in 0.4 s: 1,000 datagrams/s, 0.8 Mbit/s\n"


def test_one_batch_has_no_rate() -> None:
    stream = io.StringIO()
    sizes = iter([0, 64, 64])

    def read() -> Sample:
        return Sample((Flow("sent", number := next(sizes), number * 100),))

    with Progress(read, LineDisplay(stream), stream=stream) as progress:
        progress.tick(active=True)
    assert stream.getvalue() == "sent 64 datagrams, 6.4 kB in 0.0 s\n"


def test_nothing_is_written_without_a_display() -> None:
    stream = io.StringIO()
    with Progress(lambda: Sample(()), None, stream=stream) as progress:
        progress.tick(active=True)
    assert stream.getvalue() == ""


def test_no_rate_where_no_time_has_passed() -> None:
    assert Rates.between(Flow("sent", 0, 0), Flow("sent", 5, 5), 0.0) == Rates(0.0, 0.0)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (316_049_000, "316.0 MB"), (5 * 10**15, "5000.0 TB")],
)
def test_sizes_are_shown_in_decimal_units(number: int, text: str) -> None:
    assert in_bytes(number) == text
