"""`mcastfast recv --check` tells what is lost, doubled and late of numbered datagrams, and fails for what is lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from clilab import Result, run, running
from hypothesis import given
from hypothesis import strategies as st
from traffic import connected_sender, feed

from mcastfast import Receiver, Sender
from mcastfast.cli import main
from mcastfast.commands import checking
from mcastfast.commands.checking import Check

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netlab import Lan, Link

    from mcastfast import Batch

GROUP = "239.1.2.3:5000"


def numbered(numbers: Iterable[int]) -> list[bytes]:
    return [number.to_bytes(8, "big") + b"rest" for number in numbers]


class Stand(bytes):
    """As much of a Datagram as a check looks at."""

    source = ("10.0.0.7", 5000)


def checked(numbers: Iterable[int]) -> Check:
    check = Check()
    batch: Any = [Stand(payload) for payload in numbered(numbers)]
    check.take(batch)
    return check


def told(check: Check) -> dict[str, int]:
    """The counts that are not 0."""
    return {name: number for name, number in check.losses if number}


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [
        (range(100), {}),
        ((0, 1, 4, 5), {"lost": 2}),
        ((0, 1, 1, 2, 0, 1, 2), {"doubled": 1}),  # a second run, not three more that are doubled
        ((0, 0, 1), {"doubled": 1}),
        ((0, 1, 2, 0, 3), {"doubled": 1}),  # 1 does not follow: no new run
        ((0, 1, 2, 0, 2, 1), {"doubled": 3}),
        ((0, 2, 1, 3), {"late": 1}),
        ((0, 3, 2, 2, 4), {"lost": 1, "late": 1, "doubled": 1}),
        ((1, 0, 2), {"late": 1}),
        ((7000, 7001, 7003), {"before the first": 7000, "lost": 1}),
        ((7000, 6999, 7001), {"before the first": 6999, "late": 1}),
        ((7000, 7001, 0, 1, 2), {"before the first": 7000}),
        ((0, 1, 5, 0, 1, 3), {"lost": 4}),
        ((0, 2**63, 1), {"lost": 2**63 - 1, "doubled": 1}),  # 1 is too far behind to be known
    ],
)
def test_numbers_are_told_for_what_they_are(numbers: Iterable[int], counts: dict[str, int]) -> None:
    assert told(checked(numbers)) == counts


@given(st.lists(st.integers(1, 60)))
def test_every_number_is_counted_once(numbers: list[int]) -> None:
    counts = dict(checked(numbers).losses)
    distinct = set(numbers)
    assert counts["lost"] + counts.get("before the first", 0) == max(distinct, default=-1) + 1 - len(distinct)
    assert counts["doubled"] == len(numbers) - len(distinct)


def test_what_is_missing_takes_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_REACH", 10)
    check = checked([*range(0, 200, 2), 197, 1])
    assert told(check) == {"lost": 98, "late": 1, "doubled": 1}
    assert max(len(run.missing) for run in check._runs.values()) <= 20


def test_each_source_has_numbers_of_its_own() -> None:
    check = Check()
    with feed() as busy, connected_sender(busy.receiver.address) as other:
        for numbers in ((0, 1, 2), (3, 5)):
            busy.send(*numbered(numbers))
            other.send_batch(numbered(numbers))
            for batch in busy.receive(2 * len(numbers)):
                check.take(batch)
    assert told(check) == {"lost": 2}


def test_what_has_no_number_is_no_pass() -> None:
    check = Check()
    with feed() as busy:
        check.take(busy.batch(*numbered((0, 1)), bytes(7)))
    assert told(check) == {"without a number": 1}
    assert check.failure(None) == (
        "--check: 1 of 3 datagrams are shorter than a number, 8 bytes: send with a --size of 8 or more"
    )


def receive(lan: Lan, numbers: Iterable[int], *args: str) -> Result:
    """How `recv --check` ends that these came to."""
    payloads = numbered(numbers)
    args = ("recv", GROUP, "-i", lan.receiver.name, "--check", "-c", str(len(payloads)), *args)
    with running(lan.receiver.namespace, *args, until="joined") as command:
        with lan.sender.namespace, Sender(GROUP, interface=lan.sender.name) as sender:
            sender.send_batch(payloads)
        return command.finish()


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("options", [(), ("--background", "16M")], ids=["", "background"])
@pytest.mark.parametrize(
    ("numbers", "counts", "error"),
    [
        (range(50), "lost 0, doubled 0, late 0", ""),
        ((0, 1, 4, 5), "lost 2, doubled 0, late 0", "mcastfast: error: --check: lost 2 of 6 datagrams\n"),
        ((0, 1, 1, 2), "lost 0, doubled 1, late 0", ""),
        ((0, 2, 1, 3), "lost 0, doubled 0, late 1", ""),
    ],
    ids=["none", "lost", "doubled", "late"],
)
def test_losses_are_told_and_fail(
    lan: Lan, options: tuple[str, ...], numbers: Iterable[int], counts: str, error: str
) -> None:
    result = receive(lan, numbers, *options)
    assert result.stderr.endswith(f"kernel drops 0, foreign 0, truncated 0, {counts}\n{error}")
    assert result.code == bool(error)


@pytest.mark.needs("namespaces")
def test_a_failure_is_told_to_who_wants_no_summary(loopback: Link) -> None:
    result = run(loopback.namespace, "recv", GROUP, "-i", "lo", "--check", "-t", "0.1", "--quiet")
    assert (result.code, result.stderr) == (1, "mcastfast: error: --check: no datagram came\n")


@pytest.mark.needs("namespaces")
def test_generated_datagrams_pass_and_may_be_written_too(lan: Lan) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "--check", "-o", "-", "-c", "300")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        assert run(lan.sender.namespace, "send", GROUP, "-i", lan.sender.name, "-c", "300", "--size", "9").code == 0
        result = command.finish()
    assert result.code == 0
    assert result.stdout == b"".join(number.to_bytes(8, "big") + b"\0" for number in range(300))
    assert result.stderr.endswith("lost 0, doubled 0, late 0\n")


@pytest.mark.needs("namespaces")
def test_progress_shows_what_is_lost_so_far(lan: Lan) -> None:
    args = ("recv", GROUP, "-i", lan.receiver.name, "--check")
    with running(lan.receiver.namespace, *args, until="joined") as command:
        with lan.sender.namespace, Sender(GROUP, interface=lan.sender.name) as sender:
            sender.send_batch(numbered((0, 9)))
        command.wait_for(r" s   received  .* lost 8   doubled 0   late 0$")
        result = command.finish(signal.SIGINT)
    assert (result.code, result.stderr.splitlines()[-1]) == (1, "mcastfast: error: --check: lost 8 of 10 datagrams")


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("is_checked", [False, True], ids=["unchecked", "checked"])
def test_fewer_than_were_wanted_are_a_failure_of_the_check_alone(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_checked: bool
) -> None:
    recv_batch, is_sent = Receiver.recv_batch, False

    def send_first(receiver: Receiver, timeout: float | None = None) -> Batch:
        nonlocal is_sent
        if not is_sent:
            with Sender(GROUP, interface="lo") as sender:
                sender.send_batch(numbered(range(3)))
            is_sent = True
        return recv_batch(receiver, timeout)

    monkeypatch.setattr(Receiver, "recv_batch", send_first, raising=False)
    args = ("recv", GROUP, "-i", "lo", "-c", "2k", "-t", "0.2", *(["--check"] if is_checked else []))
    assert main(args) == int(is_checked)
    error = "mcastfast: error: --check: 3 datagrams came, and not 2,000 (--count)\n" if is_checked else "truncated 0\n"
    assert capsys.readouterr().err.endswith(error)
