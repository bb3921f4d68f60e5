"""What `send` and `relay` hand to a sender goes out in order; what cannot, or comes too late, is counted."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest
from clilab import TIMEOUT, Result, run, running
from netlab import throttle

from mcastfast import Receiver, Sender
from mcastfast.commands.outlet import Outlet
from mcastfast.commands.progress import Progress, Sample
from mcastfast.commands.stopping import Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netlab import Lan, Link

pytestmark = pytest.mark.needs("namespaces")

GROUP = "239.1.2.3:5000"
BLOCKED = {
    "buffer": (("--buffer", "4608"), 1_000_000, 50),
    "buffer at a rate": (("--buffer", "4608", "--rate", "1000"), 1_000_000, 50),
    "queue": ((), 3000, 50),
    "too small": (("--buffer", "4608", "--size", "60000"), 1_000_000, 50),
    "too small at a rate": (("--buffer", "4608", "--size", "60000", "--rate", "0.01"), 1_000_000, 1),
}
"""Options of `send`, how many bytes wait in the device's queue, and how many of 50 datagrams are tried at once.

The buffer is full or too small for one datagram, or the device's queue is full."""


@pytest.fixture
def progress() -> Iterator[Progress]:
    with Progress(lambda: Sample(()), None) as progress:
        yield progress


def block(link: Link, limit: int) -> None:
    """Let one datagram through in a few seconds, and so many bytes wait."""
    throttle(link, "3kbit", burst=1500, limit=limit)


@pytest.mark.parametrize(
    ("group", "largest"),
    [("239.1.2.3:5000", 65507), pytest.param("[ff15::77]:5000", 65527, marks=pytest.mark.needs("ipv6"))],
    ids=["ipv4", "ipv6"],
)
def test_what_no_datagram_carries_is_left_out_alone(lan: Lan, progress: Progress, group: str, largest: int) -> None:
    payloads = [b"one", bytes(largest + 1), b"two", bytes(largest), bytes(70_000), b"three"]
    with lan.receiver.namespace, Receiver(group, interface=lan.receiver.name, max_datagram=65535) as receiver:
        with lan.sender.namespace, Sender(group, interface=lan.sender.name) as sender:
            outlet = Outlet(sender, skip_oversize=True)
            outlet.send(payloads, Stop(), progress)
        received: list[bytes] = []
        while len(received) < 4:
            received += receiver.recv_batch(TIMEOUT).payloads()
    assert received == [b"one", b"two", bytes(largest), b"three"]
    assert outlet.oversize == 2


def test_what_is_over_the_mtu_is_left_out_alone(lan: Lan, progress: Progress) -> None:
    with lan.receiver.namespace, Receiver(GROUP, interface=lan.receiver.name) as receiver:
        with lan.sender.namespace, Sender(GROUP, interface=lan.sender.name, fragment=False) as sender:
            outlet = Outlet(sender, skip_oversize=True)
            outlet.send([bytes(2000), b"one", bytes(70_000), bytes(1473), b"two", bytes(1472)], Stop(), progress)
        received: list[bytes] = []
        while len(received) < 3:
            received += receiver.recv_batch(TIMEOUT).payloads()
    assert received == [b"one", b"two", bytes(1472)]
    assert outlet.oversize == 3


def counted(result: Result, *names: str) -> int:
    """The sum of these counts in the summary."""
    summary = result.stderr.rpartition("\nsent ")[2]
    found = [re.search(rf"(?:^|\W){name} ([\d,]+)", f"sent {summary}") for name in names]
    return sum(int(match[1].replace(",", "")) for match in found if match)


@pytest.mark.needs("token_bucket")
@pytest.mark.parametrize(("options", "limit", "tried"), BLOCKED.values(), ids=BLOCKED)
def test_duration_ends_it_while_the_way_out_is_blocked(
    lan: Lan, options: tuple[str, ...], limit: int, tried: int
) -> None:
    block(lan.sender, limit)
    args = ("send", GROUP, "-i", lan.sender.name, "--size", "1400", "--count", "50", "--duration", "0.3", *options)
    result = run(lan.sender.namespace, *args)
    assert result.code == 0
    assert counted(result, "not sent") > 0
    assert counted(result, "sent", "not sent") == tried


@pytest.mark.needs("token_bucket")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("options", "limit", "tried"), BLOCKED.values(), ids=BLOCKED)
def test_signal_ends_it_while_the_way_out_is_blocked_and_progress_is_shown(
    lan: Lan, options: tuple[str, ...], limit: int, tried: int, sent: signal.Signals
) -> None:
    block(lan.sender, limit)
    args = ("send", GROUP, "-i", lan.sender.name, "--size", "1400", "--count", "50", *options)
    with running(lan.sender.namespace, *args, until=r" s   sent ") as command:
        result = command.finish(sent)
    assert result.code == 0
    assert counted(result, "sent", "not sent") == tried


@pytest.mark.needs("token_bucket")
@pytest.mark.parametrize("target", ["239.1.2.4:5001", "10.77.1.2:5001"], ids=["multicast", "unicast"])
@pytest.mark.parametrize("limit", [3000, 1_000_000], ids=["queue", "buffer"])
def test_a_relay_ends_while_the_way_out_is_blocked(lan: Lan, target: str, limit: int) -> None:
    name = lan.receiver.name
    block(lan.receiver, limit)
    out = ("-O", name) if target.startswith("239") else ()
    args = ("relay", GROUP, target, "-i", name, *out, "--send-buffer", "4608")
    with running(lan.receiver.namespace, *args, until="^sending to") as command:
        with lan.sender.namespace, Sender(GROUP, interface=lan.sender.name) as sender:
            sender.send_batch([bytes(1400)] * 50)
        command.wait_for(r"received +[1-9].* sent ")
        result = command.finish(signal.SIGINT)
    assert result.code == 0
    received = re.search(r"^received (\d+) datagrams?, ", result.stderr, re.MULTILINE)
    assert received
    assert counted(result, "not sent") > 0
    assert counted(result, "sent", "not sent") == int(received[1])
