"""The packet ring and its companion socket together get what a plain socket gets, each datagram once."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import clab
import pytest
from packetlab import internet_checksum

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import netlab

PORT = 5000
IP_MULTICAST_ALL, IPV6_MULTICAST_ALL = 49, 29
MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP, MCAST_BLOCK_SOURCE = 42, 46, 43
UDP_SEGMENT = 103
IPV4, IPV6 = 0x0800, 0x86DD
VLAN, SERVICE_VLAN = 0x8100, 0x88A8
FRAGMENTED = "fragmented" + 3000 * "."

pytestmark = [
    pytest.mark.skipif(not clab.CSRC.is_dir(), reason="no C sources beside the tests"),
    pytest.mark.needs("packet_socket", "asan"),
    pytest.mark.xdist_group("ring_traffic"),  # they share one build
]


class Family(NamedTuple):
    """What differs: the groups that everybody, only the sender, and everybody but the sender may send to."""

    version: int
    domain: int
    level: int
    all: str
    included: str
    excluded: str


FOUR = Family(4, socket.AF_INET, socket.IPPROTO_IP, "239.1.2.3", "232.1.2.3", "239.1.2.4")
SIX = Family(6, socket.AF_INET6, socket.IPPROTO_IPV6, "ff15::1:3", "ff3e::8000:3", "ff15::2:3")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, sanitizer = tmp_path_factory.mktemp("probe"), "address,undefined"
    return clab.build("ring_probe", sanitizer, folder, clab.build_core(sanitizer, folder))


class Probe:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def lines(self) -> Counter[str]:
        """What came before the end, which must have been sent."""
        output, errors = self._process.communicate(timeout=60)
        assert (self._process.returncode, errors) == (0, "")
        return Counter(output.splitlines()) - Counter(["datagram end"])


@contextlib.contextmanager
def _probe(program: Path, link: netlab.Link, family: Family, groups: Sequence[str]) -> Iterator[Probe]:
    command = [str(program), str(family.version), str(PORT), link.name, *groups]
    with (
        link.namespace,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clab.environment()
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Probe(process)
        finally:
            process.kill()


def _storage(family: Family, address: str) -> bytes:
    if family is FOUR:
        return struct.pack("=HH4s120x", socket.AF_INET, 0, socket.inet_aton(address))
    return struct.pack("=HHI16s104x", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, address))


def _plain(link: netlab.Link, family: Family, sender: str) -> socket.socket:
    """A plain socket with the same memberships as the probe."""
    receiver = socket.socket(family.domain, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    receiver.setsockopt(family.level, IP_MULTICAST_ALL if family is FOUR else IPV6_MULTICAST_ALL, 0)
    receiver.bind(("", PORT))
    receiver.setblocking(False)
    index, source = struct.pack("@I4x", link.index), _storage(family, sender)
    receiver.setsockopt(family.level, MCAST_JOIN_GROUP, index + _storage(family, family.all))
    receiver.setsockopt(family.level, MCAST_JOIN_SOURCE_GROUP, index + _storage(family, family.included) + source)
    receiver.setsockopt(family.level, MCAST_JOIN_GROUP, index + _storage(family, family.excluded))
    receiver.setsockopt(family.level, MCAST_BLOCK_SOURCE, index + _storage(family, family.excluded) + source)
    return receiver


def _drain(receiver: socket.socket) -> Counter[str]:
    found: Counter[str] = Counter()
    with contextlib.suppress(BlockingIOError):
        while True:
            found[receiver.recv(65536).decode()] += 1
    return found


@contextlib.contextmanager
def _sender(link: netlab.Link, family: Family) -> Iterator[socket.socket]:
    with link.namespace, socket.socket(family.domain, socket.SOCK_DGRAM) as sender:
        if family is FOUR:
            egress = struct.pack("@4x4si", socket.inet_aton(link.ipv4), link.index)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, egress)
        else:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.index)
        yield sender


class Frames:
    """Ethernet frames to a group by hand: what no socket sends."""

    def __init__(self, link: netlab.Link, family: Family) -> None:
        self._family = family
        self._source = link.ipv4 if family is FOUR else link.ipv6
        group = socket.inet_pton(family.domain, family.all)
        self._mac = b"\1\0\x5e" + bytes([group[1] & 127]) + group[2:] if family is FOUR else b"\x33\x33" + group[-4:]
        self._addresses = socket.inet_pton(family.domain, self._source) + group
        with link.namespace:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._socket.bind((link.name, 0))

    def close(self) -> None:
        self._socket.close()

    def udp(self, text: str, checksum: int | None = None) -> bytes:
        """The datagram with a right checksum, or with another one."""
        length = 8 + len(text)
        datagram = struct.pack("!HHHH", 4000, PORT, length, 0) + text.encode()
        if checksum is None:
            checksum = internet_checksum(self._addresses + struct.pack("!HH", 17, length) + datagram)
        return datagram[:6] + struct.pack("!H", checksum) + datagram[8:]

    def ip(self, payload: bytes, *, protocol: int = 17, options: bytes = b"") -> bytes:
        if self._family is SIX:
            return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 9) + self._addresses + payload
        words = 5 + len(options) // 4
        length = words * 4 + len(payload)
        header = struct.pack("!BBHHHBBH", 0x40 | words, 0, length, 7, 0, 9, protocol, 0) + self._addresses + options
        return header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:] + payload

    def send(self, packet: bytes, tags: Sequence[tuple[int, int]] = (), mac: bytes | None = None) -> None:
        ethertype = IPV4 if self._family is FOUR else IPV6
        link_header = (mac or self._mac) + b"\2\0\0\0\0\1" + b"".join(struct.pack("!HH", *tag) for tag in tags)
        self._socket.send(link_header + struct.pack("!H", ethertype) + packet)


def _groups(family: Family, sender: str) -> tuple[str, str, str]:
    return family.all, f"{family.included}+{sender}", f"{family.excluded}-{sender}"


def _send_all(sender: socket.socket, family: Family) -> None:
    for group in (family.all, family.included, family.excluded):
        sender.sendto(f"to-{group}".encode(), (group, PORT))
    sender.sendto(b"", (family.all, PORT))
    sender.sendto(b"another-port", (family.all, PORT + 1))
    sender.sendto(b"another-group", ("239.9.9.9" if family is FOUR else "ff15::9", PORT))
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 6)
    sender.sendto(b"train1train2tra3", (family.all, PORT))
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
    sender.sendto(FRAGMENTED.encode(), (family.all, PORT))


def _send_frames(frames: Frames, family: Family) -> None:
    frames.send(frames.ip(frames.udp("whole")))
    frames.send(frames.ip(frames.udp("padded")) + bytes(20))
    frames.send(frames.ip(frames.udp("wrong-sum", 0x5555)))
    frames.send(frames.ip(frames.udp("no-sum", 0)))
    frames.send(frames.ip(frames.udp("to-another-host")), mac=b"\2\0\0\0\0\x77")
    frames.send(frames.ip(frames.udp("priority-tag")), [(VLAN, 0xA000)])
    frames.send(frames.ip(frames.udp("vlan")), [(VLAN, 6)])
    frames.send(frames.ip(frames.udp("vlan-behind-priority")), [(VLAN, 0xA000), (VLAN, 6)])
    frames.send(frames.ip(frames.udp("two-tags")), [(SERVICE_VLAN, 7), (VLAN, 6)])
    if family is FOUR:
        frames.send(frames.ip(frames.udp("options"), options=b"\x94\x04\0\0"))
    else:
        hop, last = b"\x3c\0\1\4\0\0\0\0", b"\x11\0\1\4\0\0\0\0"
        frames.send(frames.ip(hop + last + frames.udp("extensions"), protocol=0))
        frames.send(frames.ip(b"\x11\0\0\0\0\0\0\7" + frames.udp("atomic"), protocol=44))


@pytest.mark.parametrize("family", [FOUR, SIX], ids=["ipv4", "ipv6"])
def test_gets_what_a_plain_socket_gets(program: Path, lan: netlab.Lan, family: Family) -> None:
    source = lan.sender.ipv4 if family is FOUR else lan.sender.ipv6
    with (
        lan.receiver.namespace,
        _plain(lan.receiver, family, source) as plain,
        _probe(program, lan.receiver, family, _groups(family, source)) as probe,
        _sender(lan.receiver, family) as local,
        _sender(lan.sender, family) as sender,
        contextlib.closing(Frames(lan.sender, family)) as frames,
    ):
        local.sendto(b"looped", (family.all, PORT))
        _send_all(sender, family)
        _send_frames(frames, family)
        sender.sendto(b"end", (family.all, PORT))
        found = probe.lines()
        expected = _drain(plain)
    assert {"whole", "train1", "tra3", "priority-tag", "looped", FRAGMENTED} < set(expected)
    wrong_sums = 1 if family is FOUR else 2  # IPv6 has no datagrams without one
    assert found.pop("fragment ") == 1
    assert found.pop("bad checksum ") == wrong_sums
    assert found.pop("companion looped") == 1
    assert found == Counter(f"datagram {text}" for text in expected.elements()) - Counter(
        ["datagram end", "datagram looped", f"datagram {FRAGMENTED}"]
    )


@pytest.mark.parametrize("family", [FOUR, SIX], ids=["ipv4", "ipv6"])
def test_unicast_comes_by_the_companion(program: Path, lan: netlab.Lan, family: Family) -> None:
    receiver = lan.receiver.ipv4 if family is FOUR else lan.receiver.ipv6
    with (
        _probe(program, lan.receiver, family, [family.all]) as probe,
        _sender(lan.sender, family) as sender,
    ):
        sender.sendto(b"unicast", (receiver, PORT))
        sender.sendto(b"end", (family.all, PORT))
        assert probe.lines() == {"companion unicast": 1}


@pytest.mark.parametrize("family", [FOUR, SIX], ids=["ipv4", "ipv6"])
def test_each_comes_once_over_loopback(program: Path, loopback: netlab.Link, family: Family) -> None:
    with _probe(program, loopback, family, [family.all]) as probe, _sender(loopback, family) as sender:
        for loop in (1, 0):
            option = socket.IP_MULTICAST_LOOP if family is FOUR else socket.IPV6_MULTICAST_LOOP
            sender.setsockopt(family.level, option, loop)
            sender.sendto(b"datagram", (family.all, PORT))
        sender.sendto(b"end", (family.all, PORT))
        assert probe.lines() == {"datagram datagram": 2}
