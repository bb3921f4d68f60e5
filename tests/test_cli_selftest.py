"""`mcastfast selftest` holds on a sound system, and each of its checks fails for the fault that it is there for."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import socket
import sys
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import pytest
from clilab import TIMEOUT, run
from memorylab import SANITIZED

import mcastfast
from mcastfast import ENGINES, Batch, Receiver, ReceiverSet, Sender, interfaces, options
from mcastfast.binding import Binding
from mcastfast.cli import main
from mcastfast.commands import loopback as loopback_module
from mcastfast.commands import selftest, selftest_checks, selftest_lab, selftest_process, selftest_traffic
from mcastfast.commands.loopback import Loopback, PinnedSender
from mcastfast.commands.selftest_checks import Check, plan
from mcastfast.commands.selftest_lab import Lab
from mcastfast.commands.selftest_machine import anonymous, wine_version
from mcastfast.commands.selftest_process import CheckProcess, Outcome, State, make
from mcastfast.errors import CURRENT, Platform
from mcastfast.membership import Memberships
from mcastfast.packing import Egress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from netlab import Lan, Link, Namespace

    Faulty: TypeAlias = Callable[[pytest.MonkeyPatch], None]


VERSIONS = ("IPv4", "IPv6")

# A sound system


def report(namespace: Namespace | None, *args: str, code: int = 0) -> dict[str, Any]:
    result = run(namespace, "selftest", "--json", *args)
    found: dict[str, Any] = json.loads(result.text)
    assert (result.code, result.stderr) == (code, ""), of_state(found, State.FAILED)
    return found


def of_state(found: dict[str, Any], state: State) -> dict[str, str]:
    return {check["check"]: check["reason"] for check in found["checks"] if check["state"] == state}


@pytest.mark.parametrize("check", list(plan(ENGINES)), ids=lambda check: check.key)
def test_the_check_holds(loopback: Link, check: Check) -> None:
    outcome = make(check)
    if outcome.state is State.ABSENT:
        pytest.skip(outcome.reason)
    assert outcome.state is State.OK, outcome


def test_every_check_is_made(loopback: Link) -> None:
    found = report(None)
    assert [check["check"] for check in found["checks"]] == [check.key for check in plan()]
    if CURRENT is Platform.LINUX:
        trains = {f"{name}-{version}-portable" for name in ("receives_trains", "sends_trains") for version in VERSIONS}
        assert of_state(found, State.ABSENT).keys() - {"leaves_the_gil_off"} == trains


def test_an_engine_by_private_calls_is_checked_when_it_is_named_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest_checks, "ENGINES", ("socket", "portable", "apple"))
    assert {check.engine for check in plan()} == {"", "socket", "portable"}
    assert {check.engine for check in plan(["apple"])} == {"", "apple"}


def test_only_the_engines_that_are_named_are_checked(loopback: Link) -> None:
    checked = {check["subject"] for check in report(None, "--engine", ENGINES[-1])["checks"]}
    assert checked == {"package", "IPv4", f"IPv4 {ENGINES[-1]}", "IPv6", f"IPv6 {ENGINES[-1]}"}
    assert run(None, "selftest", "--engine", "7").code == 2


def test_the_report_is_what_the_machine_is_then_the_checks_then_their_number(loopback: Link) -> None:
    result = run(None, "selftest")
    assert (result.code, result.stderr) == (0, "")
    machine, checks, summary = result.text.split("\n\n")
    facts = dict(line.split(maxsplit=1) for line in machine.splitlines())
    assert list(facts) == ["mcastfast", "python", "system", "processors", "engines", "interfaces"]
    assert facts["mcastfast"].startswith(f"{mcastfast.__version__}, ")
    assert mcastfast._core.COMPILER in facts["mcastfast"]
    assert repr(ENGINES[0]) in facts["engines"]
    lines = [line for line in checks.splitlines() if not line.startswith("        ")]
    assert len(lines) == len(list(plan()))
    assert {line.split()[0] for line in lines} <= {"ok", "absent"}
    assert re.fullmatch(r"\d+ ok, 0 failed, \d+ absent, in \d+\.\d s\n", summary)


def test_verbose_tells_how_long_each_check_took(loopback: Link) -> None:
    lines = run(None, "selftest", "--verbose").text.split("\n\n")[1].splitlines()
    assert [line for line in lines if not re.search(r"  \(\d+\.\d ms\)$|^        ", line)] == []


def test_a_check_has_a_text_in_python_without_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check(selftest_traffic.delivers_in_order, 4, ENGINES[0])
    assert check.text == "Each datagram comes once, in order and byte for byte, from 0 bytes to 8 KiB"
    monkeypatch.setattr(selftest_traffic.delivers_in_order, "__doc__", None)
    assert check.text == "Delivers in order"


@pytest.mark.skipif(not wine_version(), reason="about Wine")
def test_a_gap_of_wine_is_absent_with_its_cause(loopback: Link) -> None:
    absent = of_state(report(None), State.ABSENT)
    assert absent[f"delivers_named_sources-IPv4-{ENGINES[0]}"].startswith(f"Wine {wine_version()} hands source")


def test_ipv6_without_a_route_is_absent_and_says_what_to_do(namespace: Namespace) -> None:
    """As it is on a fresh machine."""
    found = report(namespace)
    (check,) = (check for check in found["checks"] if "IPv6" in check["check"])
    assert (check["check"], check["state"]) == ("reaches_plain_socket-IPv6", "absent")
    assert "Network is unreachable" in check["reason"]
    assert "ip -6 route add local ff00::/8 dev lo table local" in check["hints"][0]


def test_a_loopback_interface_that_is_down_is_a_failure_with_the_remedy(namespace: Namespace) -> None:
    namespace.ip.link("set", index=1, state="down")
    found = report(namespace, code=1)
    assert of_state(found, State.FAILED) == {
        "reaches_plain_socket-IPv4": "no loopback interface is up with an IPv4 address: switch it on "
        "(Linux: ip link set dev lo up)"
    }
    assert of_state(found, State.OK).keys() == {"is_of_one_version"}


# Nothing leaves the host, and nothing private is told


def test_a_sender_by_another_interface_is_refused_before_it_sends(lan: Lan) -> None:
    with lan.receiver.namespace:
        (veth,) = (interface for interface in interfaces() if interface.name == lan.receiver.name)
        address = veth.local_address(socket.AF_INET)
        assert address
        with pytest.raises(OSError, match="not loopback, nothing was sent"):
            PinnedSender("239.255.1.2", Loopback(veth, address), port=20000)


@pytest.mark.parametrize(
    ("option", "told"), [(options.EGRESS, Egress(77)), (options.MULTICAST_HOPS, 2)], ids=["egress interface", "TTL"]
)
def test_what_the_socket_says_decides_whether_a_sender_is_refused(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, option: options.Option[Any], told: object
) -> None:
    monkeypatch.setattr(
        loopback_module, "get_option", lambda sock, asked: told if asked is option else options.get_option(sock, asked)
    )
    with pytest.raises(OSError, match="not loopback, nothing was sent"):
        PinnedSender("239.255.1.2", Loopback.find(4), port=20000)


def test_no_address_name_or_folder_is_told(lan: Lan) -> None:
    text = run(lan.receiver.namespace, "selftest", "--verbose").text
    own = [lan.receiver.ipv4, lan.receiver.ipv6, lan.receiver.link_local, lan.receiver.name, sys.prefix]
    assert [word for word in own if word in text] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("join 239.255.1.2 from 127.0.0.1 on lo: no", "join 239.255.1.2 from 127.0.0.1 on lo: no"),
        ("send to 10.0.0.7 port 5000", "send to (an address) port 5000"),
        ("from fe80::1 and ::1 to ff11::1%lo", "from (an address) and ::1 to ff11::1%lo"),
        ("unknown interface 'x': this host has eth0 (10.0.0.7/24)", "unknown interface 'x': this host has others"),
        ('  File "/home/joe/lib/mcastfast/receiver.py", line 7', '  File "receiver.py", line 7'),
        (r'  File "C:\Users\joe\receiver.py", line 7', '  File "receiver.py", line 7'),
        ("/home/joe/_core.so: undefined symbol", "_core.so: undefined symbol"),
        ("`ip -6 route add local ff00::/8 dev lo`", "`ip -6 route add local ff00::/8 dev lo`"),
        ("`nft list ruleset` or 12:30:01, 1.2.3", "`nft list ruleset` or 12:30:01, 1.2.3"),
    ],
)
def test_texts_keep_what_is_nobodys(text: str, shown: str) -> None:
    assert anonymous(text) == shown


# Faults, and the check that must fail for each


class Told(bytes):
    """A datagram that tells what it is made to tell."""

    def __new__(cls, datagram: Any, **told: object) -> Self:
        self = super().__new__(cls, bytes(datagram))
        for name in ("source", "destination", "interface_index", "timestamp", "hops", "tos", "truncated"):
            setattr(self, name, told.get(name, getattr(datagram, name)))
        return self


class Shown(list[Any]):
    """A batch that shows these datagrams."""

    dropped: Any = ()

    def payloads(self) -> list[bytes]:
        return [bytes(datagram) for datagram in self]


def receiving(change: Callable[[list[Any]], list[Any]], *, dropped: int | None = None) -> Faulty:
    """A receiver that delivers something else than what came."""

    def install(monkeypatch: pytest.MonkeyPatch) -> None:
        recv_batch = Receiver.recv_batch

        def receive(receiver: Receiver, timeout: float | None = None) -> Shown:
            batch = recv_batch(receiver, timeout)
            shown = Shown(change(list(batch)))
            with contextlib.suppress(ValueError):  # of a receiver that does not tell
                shown.dropped = [dropped] if dropped is not None else list(batch.dropped)
            return shown

        monkeypatch.setattr(Receiver, "recv_batch", receive, raising=False)

    return install


def telling(**told: Any) -> Faulty:
    """A receiver that tells this of each datagram."""
    return receiving(lambda batch: [Told(datagram, **told) for datagram in batch])


def opening(**changed: object) -> Faulty:
    """Receivers that are opened with other options than asked for; None takes one away."""

    def install(monkeypatch: pytest.MonkeyPatch) -> None:
        def open_other(*groups: str, **asked: Any) -> Receiver:
            mixed = {**asked, **{name: value for name, value in changed.items() if name in asked}}
            return Receiver(*groups, **{name: value for name, value in mixed.items() if value is not None})

        monkeypatch.setattr(selftest_lab, "Receiver", open_other)

    return install


def putting(owner: object, name: str, value: object) -> Faulty:
    """Something in the place of something else."""
    return lambda monkeypatch: monkeypatch.setattr(owner, name, value, raising=False)


def nothing(*args: object, **keywords: object) -> None:
    """Does nothing in the place of something else."""


def flip_a_byte(batch: list[Any]) -> list[Any]:
    return [
        bytes(datagram[:100]) + bytes([datagram[100] ^ 1]) + bytes(datagram[101:]) if len(datagram) > 100 else datagram
        for datagram in batch
    ]


def join_any_source(
    memberships: Memberships,
    group: Any,
    sources: Any,
    found: Any,
    join: Callable[..., None] = Memberships.join,
    **options: Any,
) -> None:
    join(memberships, group, (), found, **options)


def ignore_a_named_source(
    memberships: Memberships,
    group: Any,
    sources: Any,
    found: Any,
    join: Callable[..., None] = Memberships.join,
    **options: Any,
) -> None:
    if not sources:
        join(memberships, group, sources, found, **options)


def send_all_but_the_last(
    sender: Sender, payloads: list[Any], send_batch: Callable[..., int] = Sender.send_batch
) -> int:
    return send_batch(sender, payloads[:-1]) + 1


def count_one_too_few(sender: Sender, payloads: list[Any], send_batch: Callable[..., int] = Sender.send_batch) -> int:
    return send_batch(sender, payloads) - 1


def with_stats(owner: Any, **changed: int) -> Faulty:
    """Counters that always say this."""
    stats = owner.stats.fget
    return putting(owner, "stats", property(lambda self: stats(self)._replace(**changed)))


def time_out_at_once(receiver: Receiver, timeout: float | None = None) -> None:
    raise TimeoutError if timeout else BlockingIOError


def never_say_would_block(
    receiver: Receiver, timeout: float | None = None, recv_batch: Callable[..., Batch] = Receiver.recv_batch
) -> Batch:
    try:
        return recv_batch(receiver, timeout)
    except BlockingIOError:
        raise TimeoutError from None


def time_out_late(
    receiver: Receiver, timeout: float | None = None, recv_batch: Callable[..., Batch] = Receiver.recv_batch
) -> Batch:
    return recv_batch(receiver, timeout and timeout + 2 * selftest_traffic.SLACK)


def deaf_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that loses a datagram when its memory is used up."""
    recv_batch = Receiver.recv_batch
    refused = []

    def receive(receiver: Receiver, timeout: float | None = None) -> Shown | Batch:
        try:
            batch = recv_batch(receiver, timeout)
        except BufferError:
            refused.append(receiver)
            raise
        return Shown(list(batch)[1:]) if refused and timeout else batch

    monkeypatch.setattr(Receiver, "recv_batch", receive, raising=False)


def reuse_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver whose batches change with the next receive."""
    recv_batch = Receiver.recv_batch
    handed_out: list[Shown] = []

    def receive(receiver: Receiver, timeout: float | None = None) -> Shown:
        shown = Shown(recv_batch(receiver, timeout))
        if handed_out:
            handed_out[-1][:] = shown
        handed_out.append(shown)
        return shown

    monkeypatch.setattr(Receiver, "recv_batch", receive, raising=False)


class Mixing:
    """A set that takes its receivers for each other."""

    def __init__(self, receivers: list[Receiver]) -> None:
        self._receivers = receivers
        self._set = ReceiverSet(receivers)

    def recv_batch(self, timeout: float) -> tuple[Receiver, Batch]:
        receiver, batch = self._set.recv_batch(timeout)
        return self._receivers[1 - self._receivers.index(receiver)], batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._set.close()


def hear_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux' way, unless it is told otherwise."""
    monkeypatch.setattr(options, "MULTICAST_ALL", options.Option("nothing", ()))
    monkeypatch.setattr("mcastfast.receiver.plan_binding", lambda *_, **__: Binding())


def have_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest_checks, "__version__", "0.0.7")


def have_a_gil_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: 1)
    monkeypatch.setattr(selftest_checks, "is_gil_enabled", lambda: True)


IS_LINUX = CURRENT is Platform.LINUX

FAULTS: dict[str, dict[str, Faulty]] = {
    "is_of_one_version": {"another version": have_another_version},
    "leaves_the_gil_off": {"it is on": have_a_gil_all_the_same},
    "reaches_plain_socket": {"nothing is sent": putting(PinnedSender, "send", nothing)},
    "delivers_in_order": {
        "one is lost": receiving(lambda batch: batch[1:]),
        "a byte is changed": receiving(flip_a_byte),
        "the order is changed": receiving(lambda batch: batch[::-1]),
        "one comes twice": receiving(lambda batch: [*batch, batch[-1]]),
        "one is cut": receiving(lambda batch: [bytes(datagram[:8000]) for datagram in batch]),
    },
    "sends_batches": {
        "one is not sent": putting(Sender, "send_batch", send_all_but_the_last),
        "it miscounts": putting(Sender, "send_batch", count_one_too_few),
        "the counter miscounts": with_stats(Sender, datagrams=7),
        "one is lost": receiving(lambda batch: batch[1:]),
    },
    "fills_batches": {"each by itself": opening(batch_size=1), "more than asked for": opening(batch_size=64)},
    "fills_memory_of_the_caller": {
        "other memory": putting(
            selftest_traffic, "Batch", lambda memory, *, max_datagram: Batch(bytearray(800), max_datagram=max_datagram)
        )
    },
    "flags_what_is_cut": {
        "nothing is flagged": telling(truncated=False),
        "all is flagged": telling(truncated=True),
        "nothing is cut": opening(max_datagram=9000),
        "nothing is counted": with_stats(Receiver, truncated=0),
    },
    "tells_source_and_destination": {
        "another source": telling(source=("127.0.0.1", 7)),
        "another destination": telling(destination=("239.1.2.3", 7)),
        "no destination": telling(destination=None),
        "another interface": telling(interface_index=7777),
    },
    "tells_the_time": {"hours off": telling(timestamp=10**18), "none": telling(timestamp=None)},
    "tells_the_hop_limit": {"another": telling(hops=64), "none": telling(hops=None)},
    "tells_the_traffic_class": {"another": telling(tos=0x49), "none": telling(tos=None)},
    "counts_drops": {
        "none are counted": with_stats(Receiver, kernel_drops=0),
        "room for all": opening(receive_buffer=None),
    },
    "places_drops": {"none are told": receiving(lambda batch: batch, dropped=0)},
    "delivers_named_sources": {
        "any source is heard": putting(Memberships, "join", join_any_source),
        "none is heard": putting(Memberships, "join", ignore_a_named_source),
    },
    "blocks_and_unblocks": {
        "nothing is blocked": putting(Memberships, "block", nothing),
        "nothing is unblocked": putting(Memberships, "unblock", nothing),
    },
    "leaves": {"it stays": putting(Memberships, "leave", nothing), "no join": putting(Receiver, "join", nothing)},
    "isolates_by_binding": {
        "something else comes": receiving(lambda batch: [b"else", *batch]),
        **({"every group is heard": hear_every_group} if IS_LINUX else {}),
    },
    "isolates_by_filter": {
        "something else comes": receiving(lambda batch: [b"else", *batch]),
        **({"every group is heard": hear_every_group} if IS_LINUX else {}),
    },
    "times_out": {
        "at once": putting(Receiver, "recv_batch", time_out_at_once),
        "late": putting(Receiver, "recv_batch", time_out_late),
        "the wrong way": putting(Receiver, "recv_batch", never_say_would_block),
    },
    "wakes_on_close": {"it does not": putting(Receiver, "close", nothing)},
    "serves_sets": {"mixed up": putting(selftest_traffic, "ReceiverSet", Mixing)},
    "keeps_what_is_held": {
        "it changes": reuse_memory,
        "without a bound": opening(max_memory=2**26),
        "one is lost": deaf_in_the_end,
    },
    "sends_trains": {"no train": with_stats(Sender, trains=0), "one is lost": receiving(lambda batch: batch[1:])},
    "receives_trains": {"not taken apart": receiving(lambda batch: [b"".join(map(bytes, batch))])},
    "receives_in_background": {
        "no thread": opening(background=None),
        "one is lost": receiving(lambda batch: batch[1:]),
    },
}
"""By the check: what may be wrong, and a way to make it so."""


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that wait for what will not come need not wait long."""
    for module in (selftest_lab, selftest_checks, selftest_traffic):
        monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(selftest_traffic, "SLACK", 0.2)


@pytest.fixture
def closing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a fault has left open is closed in the end."""
    opened: list[Receiver | Sender] = []
    enter = Lab.enter_context

    def note(lab: Lab, holder: Any) -> Any:
        opened.append(holder)
        return enter(lab, holder)

    monkeypatch.setattr(Lab, "enter_context", note)
    with pytest.MonkeyPatch.context() as later:
        later.setattr(Receiver, "close", Receiver.close)
        yield
        monkeypatch.undo()  # first, or it would put back what `later` has set
    for holder in opened:
        holder.close()


def check_named(name: str) -> Check:
    return next(check for check in plan() if check.function.__name__ == name)


def test_every_check_has_a_fault() -> None:
    assert FAULTS.keys() == {check.function.__name__ for check in plan()}


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults], ids=str
)
def test_a_check_fails_for_its_fault(
    loopback: Link, hurried: None, closing: None, monkeypatch: pytest.MonkeyPatch, name: str, fault: str
) -> None:
    check = check_named(name)
    if (sound := make(check)).state is State.ABSENT and name != "leaves_the_gil_off":
        pytest.skip(sound.reason)
    FAULTS[name][fault](monkeypatch)
    outcome = make(check)
    assert outcome.state is State.FAILED
    assert outcome.reason
    assert outcome.trace


# Checks that do not come to an end

PROCESS = """
import os, threading, time
from mcastfast.commands import selftest_checks, selftest_process
make = selftest_checks.Check.make
def fail(check):
    if check.function.__name__ == "is_of_one_version":
        {}
    make(check)
selftest_checks.Check.make = fail
selftest_process.main()
"""


def process_that(does: str) -> CheckProcess:
    """One whose first check does this."""
    return CheckProcess([sys.executable, "-X", "faulthandler", "-c", PROCESS.format(does)])


def outcomes(process: CheckProcess, bound: float) -> list[Outcome]:
    """Of the first check, and of one after it."""
    with process:
        return [process.make(check_named(name), bound) for name in ("is_of_one_version", "reaches_plain_socket")]


def test_a_check_that_hangs_is_ended_and_the_next_is_made(loopback: Link) -> None:
    first, second = outcomes(process_that("threading.Event().wait()"), 0.5)
    assert (first.state, second.state) == (State.FAILED, State.OK)
    assert re.fullmatch(r"it was not done after \d+ s, and its process was ended", first.reason)
    assert first.seconds >= 0.5


def test_a_check_that_ends_the_process_has_failed_and_the_next_is_made(loopback: Link) -> None:
    first, second = outcomes(process_that("os._exit(3)"), 20.0)
    assert (first.state, first.reason, second.state) == (State.FAILED, "its process ended, with code 3", State.OK)


def test_whoever_else_holds_the_output_is_not_waited_for(loopback: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a debugger that a crash has started, on Windows."""
    monkeypatch.setattr(selftest_process, "ENDING", 1.0)
    holder = "import sys, subprocess; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(6)'])"
    process = process_that(f"{holder}; threading.Event().wait()")
    assert process.make(check_named("is_of_one_version"), 0.5).state is State.FAILED
    assert process._reader.is_alive()
    process._reader.join(TIMEOUT)


@pytest.mark.skipif(SANITIZED, reason="the sanitizer answers SIGSEGV")
def test_a_crash_is_told_with_the_place(loopback: Link) -> None:
    first, second = outcomes(process_that("import ctypes; ctypes.string_at(0)"), 20.0)
    assert (first.state, second.state) == (State.FAILED, State.OK)
    assert first.reason == "its process ended, by SIGSEGV"
    assert [line for line in first.trace if re.search(r'File "selftest_process.py", line \d+ in main', line)]


def test_a_process_that_cannot_start_is_a_failure(loopback: Link) -> None:
    with CheckProcess([sys.executable, "-c", "raise SystemExit('no such module')"]) as process:
        outcome = process.make(check_named("is_of_one_version"))
    assert (outcome.state, outcome.reason) == (State.FAILED, "its process ended, with code 1")
    assert outcome.trace == ("no such module",)


def test_what_lies_in_the_folder_is_not_imported(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('another module')")
    monkeypatch.chdir(tmp_path)
    with CheckProcess() as process:
        assert process.make(check_named("is_of_one_version")).state is State.OK


def test_a_failure_is_code_1_and_asks_for_a_report(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest_process, "CheckProcess", lambda: process_that("raise ValueError('at /a/b/c.py')"))
    monkeypatch.setattr(selftest_checks, "ENGINES", ())
    assert main(["selftest", "--verbose"]) == 1
    text = capsys.readouterr().out
    assert re.search(r"\nFAILED  package +The package is the one that is installed: ValueError: at c.py  \(", text)
    assert '          File "<string>", line 7, in fail\n' in text
    assert ", 1 failed, " in text
    assert text.endswith("please report all lines above; they name no address, host, user or folder\n")


def test_when_the_time_is_over_no_check_is_begun(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "TOTAL", -1.0)
    assert main(["selftest", "--json"]) == 1
    (check,) = json.loads(capsys.readouterr().out)["checks"]
    assert (check["state"], check["seconds"]) == ("FAILED", 0.0)
    assert check["reason"] == "neither it nor those after it were made: -1 s are over"


@pytest.mark.parametrize(
    ("version", "name", "code", "state"),
    [
        ("", "delivers_in_order", errno.ENOPROTOOPT, State.FAILED),  # the number of the option may be wrong
        ("", "delivers_named_sources", errno.EINVAL, State.FAILED),
        ("8.0", "delivers_in_order", errno.ENOPROTOOPT, State.ABSENT),
        ("8.0", "delivers_in_order", errno.EINVAL, State.FAILED),
        ("8.0", "delivers_named_sources", errno.EINVAL, State.ABSENT),
    ],
)
def test_what_wine_is_known_to_lack_is_absent_there(
    loopback: Link, monkeypatch: pytest.MonkeyPatch, version: str, name: str, code: int, state: State
) -> None:
    def refuse(lab: Lab, *groups: str, **asked: object) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(Lab, "receiver", refuse)
    monkeypatch.setattr(selftest_checks, "CURRENT", Platform.WINDOWS)
    monkeypatch.setattr(selftest_checks, "wine_version", lambda: version)
    outcome = make(check_named(name))
    assert outcome.state is state
    assert outcome.reason.startswith("Wine 8.0 ") == (state is State.ABSENT)
