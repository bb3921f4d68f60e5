"""socat and mcastfast send to each other, over IPv4 and IPv6."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peerlab import TIMEOUT, run, running, wait_for_member

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from netlab import Lan, Link

pytestmark = pytest.mark.needs("namespaces", "socat", "ipv6")

PORT = 5000
SIZE = 100
PAYLOADS = [bytes([number]) * SIZE for number in range(65, 91)]

groups = pytest.mark.parametrize("group", ["239.1.2.3", "ff15::77"])


def _host(group: str) -> str:
    return f"[{group}]" if ":" in group else group


def _address(link: Link, group: str) -> str:
    return link.ipv6 if ":" in group else link.ipv4


@groups
def test_what_socat_sends_is_received_datagram_by_datagram(lan: Lan, engine: str, group: str) -> None:
    option = f"so-bindtodevice={lan.sender.name}" if ":" in group else f"ip-multicast-if={lan.sender.ipv4}"
    target = f"UDP{6 if ':' in group else 4}-DATAGRAM:{_host(group)}:{PORT},{option}"
    address = f"{_host(group)}:{PORT}"
    with lan.receiver.namespace, Receiver(address, interface=lan.receiver.name, engine=engine) as receiver:
        run(lan.sender, "socat", "-u", "-b", str(SIZE), "STDIN", target, stdin=b"".join(PAYLOADS))
        received: list[tuple[bytes, str]] = []
        while len(received) < len(PAYLOADS):
            received += [(bytes(datagram), datagram.source[0]) for datagram in receiver.recv_batch(timeout=TIMEOUT)]
    assert received == [(payload, _address(lan.sender, group)) for payload in PAYLOADS]


@groups
def test_what_is_sent_reaches_socat(lan: Lan, engine: str, group: str) -> None:
    if ":" in group:
        listen = f"UDP6-RECV:{PORT},ipv6-join-group={_host(group)}:{lan.receiver.name}"
    else:
        listen = f"UDP4-RECV:{PORT},ip-add-membership={group}:{lan.receiver.ipv4}"
    with running(lan.receiver, "socat", "-u", "-T", str(TIMEOUT), listen, "STDOUT") as process:
        wait_for_member(process, lan.receiver, group, PORT)
        address = f"{_host(group)}:{PORT}"
        with lan.sender.namespace, Sender(address, interface=lan.sender.name, engine=engine) as sender:
            assert sender.send_batch(PAYLOADS) == len(PAYLOADS)
        assert process.stdout
        assert process.stdout.read(len(PAYLOADS) * SIZE).encode() == b"".join(PAYLOADS)
