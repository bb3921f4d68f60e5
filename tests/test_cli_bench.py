"""`mcastfast bench` sends over loopback only, and accounts for every datagram."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from clilab import TIMEOUT, run, running

from mcastfast import Receiver, interfaces
from mcastfast.commands import bench_sender
from mcastfast.commands.bench_methods import METHODS, open_socket
from mcastfast.commands.bench_runs import Live
from mcastfast.commands.loopback import Loopback

if TYPE_CHECKING:
    from pathlib import Path

    from netlab import Lan, Namespace

pytestmark = pytest.mark.needs("namespaces")

TITLES = ["mcastfast, batches", "mcastfast, each as bytes", "socket.recvfrom"]


def test_json_accounts_for_every_datagram(namespace: Namespace, engine: str) -> None:
    """In a namespace as it is on a fresh machine: lo is up, and that is all."""
    args = ("bench", "--json", "--count", "5000", "--duration", "5", "--size", "100", "--engine", engine)
    result = run(namespace, *args)
    assert result.code == 0
    report = json.loads(result.text)
    assert (report["size"], report["engine"]) == (100, engine)
    assert re.fullmatch(r"239\.255\.\d+\.\d+:\d+", report["group"])
    assert [item["name"] for item in report["receivers"]] == TITLES
    for item in report["receivers"]:
        assert item["offered"] == 5000
        assert item["received"] + item["kernel_drops"] == 5000
        assert item["unaccounted"] == 0
        assert item["cpu_ns_per_datagram"] > 0
        assert item["drain_ns_per_datagram"] > 0


def test_table_stands_on_standard_output_and_the_live_rate_beside(namespace: Namespace) -> None:
    result = run(namespace, "bench", "--duration", "1.2")
    assert result.code == 0
    head, *rows = result.text.split("\n\n")[0].splitlines()
    assert re.split("  +", head) == [
        "receiver", "offered", "received", "lost", "datagrams/s", "CPU ns", "drain ns", "drain speed",
    ]  # fmt: skip
    assert [re.split("  +", row)[0] for row in rows] == TITLES
    assert rows[2].endswith("1.00 x")
    for row in rows:
        offered, received, lost = (int(cell.replace(",", "")) for cell in re.split("  +", row)[1:4])
        assert offered == received + lost > 0
    assert "Every datagram is accounted for" in result.text
    assert re.search(r"^ +1\.\d s   mcastfast, batches +[\d,]+ +[\d,]+ datagrams/s", result.stderr, re.MULTILINE)


def test_no_datagram_has_a_hop_left(namespace: Namespace) -> None:
    group = "239.255.1.2:20000"
    with namespace:
        lo = Loopback.find(4).interface
        with Receiver(group, interface=lo, metadata=["hops"]) as receiver:
            with bench_sender.open_sender(group, "auto") as sender:
                sender.send(b"x")
            datagram = receiver.recv_batch(5)[0]
    assert (datagram.hops, datagram.source[0]) == (0, "127.0.0.1")


def test_sender_that_would_leave_the_host_is_refused_before_it_sends(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    with lan.sender.namespace:
        (veth,) = (interface for interface in interfaces() if interface.name == lan.sender.name)
        address = next(address.ip for address in veth.addresses if address.version == 4)
        monkeypatch.setattr(Loopback, "find", lambda _: Loopback(veth, address))
        with pytest.raises(OSError, match=r"not loopback, nothing was sent"):
            bench_sender.open_sender("239.255.1.2:20000", "auto")


def test_loopback_that_is_down_is_a_failure(namespace: Namespace) -> None:
    namespace.ip.link("set", index=1, state="down")
    result = run(namespace, "bench")
    assert (result.code, result.stdout) == (1, b"")
    assert result.stderr.splitlines()[-1].startswith("mcastfast: error: no loopback interface is up")


def test_nothing_is_imported_from_the_folder_that_the_user_is_in(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-P", "-m", "mcastfast", "bench", "--count", "100", "--quiet"]  # as the installed one
    with namespace:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupted_it_is_not_done(namespace: Namespace) -> None:
    with running(namespace, "bench", "--duration", "20") as command:
        command.wait_for("datagrams/s")
        result = command.finish(signal.SIGINT)
    assert (result.code, result.stdout) == (1, b"")
    assert result.stderr.endswith("mcastfast: error: interrupted\n")


def test_live_run_knows_what_is_missing() -> None:
    assert Live(offered=100, received=90, kernel_drops=7, seconds=1.0, cpu=0.1).unaccounted == 3


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_receives_everything_and_no_more_than_asked_for(namespace: Namespace, method: object) -> None:
    group = "239.255.1.2:20000"
    with namespace:
        taker = method.make(open_socket(group, Loopback.find(4).interface), 100, "auto")  # type: ignore[attr-defined]
        with bench_sender.open_sender(group, "auto") as sender:
            sender.send_batch([bytes(100)] * 70)
    try:
        taken = [taker.take(64), taker.take(6)]
    finally:
        taker.close()
    assert taken == [64, 6]
