"""What `send` and `relay` hand to a sender goes out in order, but for what cannot, which is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcastfast import Receiver, Sender
from mcastfast.commands.outlet import Outlet
from mcastfast.commands.stopping import Stop

if TYPE_CHECKING:
    from netlab import Lan

pytestmark = pytest.mark.needs("namespaces")

TIMEOUT = 10.0


@pytest.mark.parametrize(
    ("group", "largest"),
    [("239.1.2.3:5000", 65507), pytest.param("[ff15::77]:5000", 65527, marks=pytest.mark.needs("ipv6"))],
    ids=["ipv4", "ipv6"],
)
def test_what_no_datagram_carries_is_left_out_alone(lan: Lan, group: str, largest: int) -> None:
    payloads = [b"one", bytes(largest + 1), b"two", bytes(largest), bytes(70_000), b"three"]
    with lan.receiver.namespace, Receiver(group, interface=lan.receiver.name, max_datagram=65535) as receiver:
        with lan.sender.namespace, Sender(group, interface=lan.sender.name) as sender:
            outlet = Outlet(sender, skip_oversize=True)
            outlet.send(payloads, Stop())
        received: list[bytes] = []
        while len(received) < 4:
            received += receiver.recv_batch(TIMEOUT).payloads()
    assert received == [b"one", b"two", bytes(largest), b"three"]
    assert outlet.oversize == 2


def test_what_is_over_the_mtu_is_left_out_alone(lan: Lan) -> None:
    group = "239.1.2.3:5000"
    with lan.receiver.namespace, Receiver(group, interface=lan.receiver.name) as receiver:
        with lan.sender.namespace, Sender(group, interface=lan.sender.name, fragment=False) as sender:
            outlet = Outlet(sender, skip_oversize=True)
            outlet.send([bytes(2000), b"one", bytes(70_000), bytes(1473), b"two", bytes(1472)], Stop())
        received: list[bytes] = []
        while len(received) < 3:
            received += receiver.recv_batch(TIMEOUT).payloads()
    assert received == [b"one", b"two", bytes(1472)]
    assert outlet.oversize == 3
