"""Trains as no sender of this machine would make them: injected by a device, or longer than any batch."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from clab import build_shim, run_preloaded
from receivelab import FAMILIES, PORT, TIMEOUT, Family, at, family_name

from mcastfast import Receiver

if TYPE_CHECKING:
    from netlab import Link, Namespace

pytestmark = pytest.mark.needs("namespaces", "ipv6")

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
VIRTIO_NET_HDR_GSO_UDP_L4 = 5
PEER = "192.0.2.2"


def checksum(octets: bytes) -> int:
    """The sum of RFC 1071, not inverted."""
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def frame(group: str, payload: bytes, size: int) -> bytes:
    """What a TUN device takes for a train: a virtio_net_hdr, then one packet that is to be cut."""
    source, destination = socket.inet_aton(PEER), socket.inet_aton(group)
    length = 8 + len(payload)
    udp = struct.pack(
        "!4H", 4000, PORT, length, checksum(source + destination + struct.pack("!BBH", 0, socket.IPPROTO_UDP, length))
    )
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 5, socket.IPPROTO_UDP, 0, source, destination)
    ip = ip[:10] + struct.pack("!H", ~checksum(ip) & 0xFFFF) + ip[12:]
    header = struct.pack("=2B4H", VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP_L4, 28, size, 20, 6)
    return header + ip + udp + payload


@pytest.mark.needs("tun")
@pytest.mark.parametrize(
    ("length", "size"),
    [(128, 1), (127, 1), (3000, 1472), (65_507, 512), (100, 200), (65_507, 1), (65_507, 7), (1000, 3)],
)
@pytest.mark.parametrize("batch_size", [10, 1024])
def test_what_a_device_injects_is_taken_apart(namespace: Namespace, length: int, size: int, batch_size: int) -> None:
    payload = bytes(number * 7 % 251 for number in range(length))
    group = FAMILIES[0].group
    with namespace:
        tunnel = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
            index = socket.if_nametoindex("tun0")
            namespace.ip.link("set", index=index, mtu=65_535, state="up")
            namespace.ip.addr("add", index=index, address="192.0.2.1", prefixlen=24)
            with Receiver(f"{group}%tun0:{PORT}", coalesce=True, batch_size=batch_size) as receiver:
                try:
                    os.write(tunnel, frame(group, payload, size))
                except OSError:
                    assert -(-length // size) > 128  # more than the kernel takes since Linux 6.12
                    return
                received: list[bytes] = []
                while sum(map(len, received)) < length:
                    received += receiver.recv_batch(timeout=TIMEOUT).payloads()
        finally:
            os.close(tunnel)
    assert received == [payload[start : start + size] for start in range(0, length, size)]


PROGRAM = """
import socket, struct, sys
from mcastfast import Receiver, Sender

group, size, batch_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
length = 60_000
data = bytes(number * 7 % 251 for number in range(length))
with Receiver(group, coalesce=True, batch_size=batch_size, max_memory=4_000_000, max_datagram=600) as receiver:
    with Sender(group, segment=True) as sender:
        for _ in range(3):
            sender.send_batch([data[start : start + 600] for start in range(0, length, 600)])
    received, kept = [], None
    while len(received) < 3 * (length // size):
        batch = receiver.recv_batch(timeout=20)
        assert len(batch) <= batch_size
        assert kept is None or kept.payloads() == received[-len(kept):]
        kept = batch
        received += batch.payloads()
    assert received == 3 * [data[start : start + size] for start in range(0, length, size)]
    assert receiver.stats.arenas <= 4, receiver.stats
    print("ok")
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the library that cuts trains smaller."""
    return build_shim("tiny_segments", tmp_path_factory.mktemp("shim"))


@pytest.mark.needs("cc")
@pytest.mark.parametrize("family", FAMILIES, ids=family_name)
@pytest.mark.parametrize(("size", "batch_size"), [(1, 1024), (2, 1000), (3, 7), (12, 1024)])
def test_a_train_of_thousands_passes_through_many_batches_and_few_arenas(
    loopback: Link, shim: str, family: Family, size: int, batch_size: int
) -> None:
    """As kernels gave them that did not limit how many datagrams a device's train may have."""
    arguments = (at(family.group, loopback), str(size), str(batch_size))
    assert run_preloaded(shim, PROGRAM, *arguments, SEGMENT=str(size)) == "ok\n"
