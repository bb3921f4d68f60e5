"""Plain C programs, one socket and one datagram per call, talk to Receiver and Sender."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peerlab import TIMEOUT, output, run, running

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from netlab import Lan, Link

pytestmark = pytest.mark.needs("namespaces", "cc")

SOURCES = Path(__file__).parent / "peers"
PORT = 12345
MESSAGES = [f"message {number}".encode() for number in range(100)]
ANY = "0.0.0.0"

groups = pytest.mark.parametrize("group", ["224.0.0.1", "239.1.2.3"])
choices = pytest.mark.parametrize("chosen", [True, False], ids=["interface", "route"])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths of the compiled programs, by name."""
    directory = tmp_path_factory.mktemp("peers")
    flags = ["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror"]
    paths = {}
    for source in SOURCES.glob("*.c"):
        paths[source.stem] = str(directory / source.stem)
        subprocess.run(["cc", *flags, "-o", paths[source.stem], str(source)], check=True, timeout=60)
    return paths


def _interface(link: Link, chosen: bool) -> str:
    if chosen:
        return link.ipv4
    link.route_multicast()
    return ANY


@groups
@choices
def test_what_the_c_sender_sends_is_received(
    lan: Lan, programs: dict[str, str], engine: str, group: str, chosen: bool
) -> None:
    with lan.receiver.namespace, Receiver(f"{group}:{PORT}", interface=lan.receiver.name, engine=engine) as receiver:
        run(lan.sender, programs["sender"], group, str(PORT), _interface(lan.sender, chosen), str(len(MESSAGES)))
        received: list[tuple[bytes, str]] = []
        while len(received) < len(MESSAGES):
            received += [(bytes(datagram), datagram.source[0]) for datagram in receiver.recv_batch(timeout=TIMEOUT)]
    assert received == [(message, lan.sender.ipv4) for message in MESSAGES]


@groups
@choices
def test_what_is_sent_reaches_the_c_receiver(
    lan: Lan, programs: dict[str, str], engine: str, group: str, chosen: bool
) -> None:
    arguments = (group, str(PORT), _interface(lan.receiver, chosen), str(len(MESSAGES)))
    with running(lan.receiver, programs["receiver"], *arguments) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        with lan.sender.namespace, Sender(f"{group}:{PORT}", interface=lan.sender.name, engine=engine) as sender:
            sender.send(MESSAGES[0])
            assert sender.send_batch(MESSAGES[1:]) == len(MESSAGES) - 1
        assert output(process) == "".join(f"{message.decode()}\n" for message in MESSAGES)
        assert process.returncode == 0


def test_a_c_receiver_and_a_receiver_share_the_port(lan: Lan, programs: dict[str, str], engine: str) -> None:
    group = "239.1.2.3"
    command = (programs["receiver"], group, str(PORT), lan.receiver.ipv4, str(len(MESSAGES)))
    with (
        running(lan.receiver, *command) as process,
        lan.receiver.namespace,
        Receiver(f"{group}:{PORT}", interface=lan.receiver.name, engine=engine) as receiver,
    ):
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        run(lan.sender, programs["sender"], group, str(PORT), lan.sender.ipv4, str(len(MESSAGES)))
        received: list[bytes] = []
        while len(received) < len(MESSAGES):
            received += receiver.recv_batch(timeout=TIMEOUT).payloads()
        assert received == MESSAGES
        assert output(process).splitlines() == [message.decode() for message in MESSAGES]
