"""memory= has all of a receiver's memory there from the start: in place, locked, on huge pages; and gives it back."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import traffic
from coalescelab import PATHS, open_path, path_name
from memorylab import SANITIZED
from receivelab import receive, script, sources

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    import coalescelab
    import netlab

    from mcastfast import Batch

SIZE = 48 << 20
"""Bytes of memory; more than anything else in these tests takes."""
ENOUGH_KIB = (SIZE >> 10) * 9 // 10
"""What has to show of it: whole arenas, so not every byte."""

pytestmark = pytest.mark.usefixtures("isolated")

LOCKS = pytest.mark.skipif(SANITIZED, reason="the sanitizer's mlock does nothing")


@pytest.fixture
def path(request: pytest.FixtureRequest) -> Iterator[coalescelab.Path]:
    yield from open_path(request)


def _status(field: str) -> int:
    """A line of /proc/self/status, KiB."""
    match = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match
    return int(match[1])


def _largest_mapping() -> tuple[int, str]:
    """KiB and VmFlags of the largest anonymous mapping of at least SIZE's magnitude: proc_pid_smaps(5)."""
    found = (0, "")
    for text in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        size, flags = re.search(r"^Size:\s*(\d+)", text, re.MULTILINE), re.search(r"^VmFlags: (.*)", text, re.MULTILINE)
        if size and flags and int(size[1]) <= SIZE >> 10:
            found = max(found, (int(size[1]), flags[1]))
    return found


@pytest.mark.parametrize("coalesce", [False, True], ids=["plain", "trains"])
def test_prefaulted_memory_is_there_before_the_first_datagram(coalesce: bool) -> None:
    before = _status("RssAnon")
    with traffic.feed(max_memory=SIZE, memory="prefault", coalesce=coalesce):
        assert _status("RssAnon") - before >= ENOUGH_KIB
    assert _status("RssAnon") - before < ENOUGH_KIB


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("family", traffic.HOSTS)
@pytest.mark.parametrize("coalesce", [False, True], ids=["plain", "trains"])
def test_prefaulted_memory_of_a_thread_is_there_and_used(coalesce: bool, family: int) -> None:
    before = _status("RssAnon")
    payloads = [traffic.payload(number) for number in range(200)]
    with traffic.feed(family, background=SIZE, memory="prefault", coalesce=coalesce) as feed:
        assert _status("RssAnon") - before >= ENOUGH_KIB
        feed.send(*payloads)
        traffic.assert_all(feed.receive(len(payloads)), payloads)
        assert feed.receiver.stats.overrun == 0


@pytest.mark.needs("packet_socket", "ipv6")
@pytest.mark.parametrize("path", PATHS, ids=path_name, indirect=True)
def test_prefaulted_memory_beside_a_ring_is_there_too(path: coalescelab.Path) -> None:
    before = _status("RssAnon")
    payloads = [traffic.payload(number) for number in range(100)]
    options = {"engine": "packet", "max_memory": SIZE, "memory": ["prefault", "huge"], "coalesce": None}
    with path.receiver(**options) as receiver, sources(path.sending) as (source,):
        assert _status("RssAnon") - before >= ENOUGH_KIB
        source.send(path.family.group, *payloads)
        assert receive(receiver, len(payloads)) == payloads


def test_without_it_memory_comes_when_it_is_needed() -> None:
    before = _status("RssAnon")
    with traffic.feed(max_memory=SIZE):
        assert _status("RssAnon") - before < ENOUGH_KIB


@LOCKS
@pytest.mark.needs("locked_memory")
def test_locked_memory_is_locked_for_as_long_as_it_lives() -> None:
    before = _status("VmLck")
    with traffic.feed(max_memory=SIZE, memory="lock") as feed:
        assert _status("VmLck") - before >= ENOUGH_KIB
        batch = feed.batch(b"kept")
    assert _status("VmLck") - before >= ENOUGH_KIB
    assert batch.payloads() == [b"kept"]
    del batch
    assert _status("VmLck") == before


def test_huge_pages_are_asked_for() -> None:
    with traffic.feed(max_memory=SIZE, memory=["huge"]):
        size, flags = _largest_mapping()
        assert size >= ENOUGH_KIB
        assert "hg" in flags.split()


@pytest.mark.parametrize(
    "memory", ["prefault", pytest.param(["lock", "huge", "prefault"], marks=pytest.mark.needs("locked_memory"))]
)
def test_kept_batches_outlive_the_receiver_and_the_last_takes_the_memory_along(memory: list[str]) -> None:
    payloads = [traffic.payload(number) for number in range(200)]
    with traffic.feed(max_memory=SIZE, memory=memory) as feed:
        feed.send(*payloads)
        batches = feed.receive(len(payloads))
    traffic.assert_all(batches, payloads)
    view = memoryview(batches[0].data)
    first, size = bytes(view), _status("VmSize")
    del batches
    assert bytes(view) == first
    view.release()
    assert size - _status("VmSize") >= ENOUGH_KIB


def _fill(feed: traffic.Feed, held: list[Batch]) -> None:
    while True:
        feed.send(b"x")
        held.append(feed.receiver.recv_batch(traffic.PATIENCE))


def test_reserved_memory_is_bounded_and_used_again() -> None:
    with traffic.feed(max_memory=1 << 20, memory="prefault", batch_size=4) as feed:
        held: list[Batch] = []
        with pytest.raises(BufferError, match="max_memory"):
            _fill(feed, held)
        arenas = feed.receiver.stats.arenas
        assert feed.receiver.stats.datagrams == len(held)
        held.clear()
        assert feed.receiver.recv_batch(traffic.PATIENCE).payloads() == [b"x"]  # which came before the refusal
        for _ in range(10 * arenas):
            feed.send(b"y", b"z")
            traffic.assert_all(feed.receive(2), [b"y", b"z"])
        assert feed.receiver.stats.arenas == arenas


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("coalesce", [False, True], ids=["plain", "trains"])
@pytest.mark.parametrize("path", PATHS, ids=path_name, indirect=True)
def test_multicast_lands_in_it(path: coalescelab.Path, coalesce: bool) -> None:
    payloads = [traffic.payload(number) for number in range(100)]
    memory = ["prefault", "huge"]
    with path.receiver(max_memory=SIZE, memory=memory, coalesce=coalesce) as receiver:
        with sources(path.sending) as (source,):
            source.send(path.family.group, *payloads)
        assert receive(receiver, len(payloads)) == payloads


@pytest.mark.parametrize("memory", ["fast", ["prefault", "hugetlb"], [""]])
def test_other_names_are_refused_before_there_is_a_socket(memory: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"^memory '.*' is not known; known are 'prefault', 'lock', 'huge'$"):
        Receiver("239.1.2.3:5000", interface="lo", memory=memory)


LOCKED_OUT = """
import os, resource, socket, mcastfast.receiver
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
if os.geteuid() == 0:
    try:
        os.setresuid(65534, 65534, 65534)
    except OSError:  # a user namespace of one user, whose root has no right to lock here
        pass
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
try:
    mcastfast.Receiver.from_socket(sock, memory="lock")
except OSError as error:
    print(error, *error.__notes__)
"""


@LOCKS
def test_a_limit_on_locked_memory_is_named_with_its_remedy(namespace: netlab.Namespace) -> None:
    with script(LOCKED_OUT, namespace=namespace) as process:
        out, err = process.communicate(timeout=traffic.PATIENCE)
    assert err == ""
    assert re.match(r"\[Errno \d+\] lock 268435456 bytes \(lock\): ", out)
    assert "RLIMIT_MEMLOCK" in out
    assert "CAP_IPC_LOCK" in out


LOCKED_OUT_BESIDE_A_RING = """
import ctypes, os, resource, sys
CAP_IPC_LOCK, PR_CAPBSET_DROP = 14, 24
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0)
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4 << 20, 4 << 20))
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
OPEN_RINGS = """
import mcastfast
for ring in ("1 MiB", "16 MiB"):
    options = {"interface": "lo", "engine": "packet", "memory": "lock", "max_memory": "1 MiB", "ring": ring}
    try:
        mcastfast.Receiver("239.1.2.3:5000", **options).close()
    except OSError as error:
        print(error, *error.__notes__)
"""


@LOCKS
@pytest.mark.needs("packet_socket", "locked_memory")
def test_a_limit_on_locked_memory_is_named_for_what_describes_a_ring(loopback: netlab.Link) -> None:
    with script(LOCKED_OUT_BESIDE_A_RING, OPEN_RINGS, namespace=loopback.namespace) as process:
        out, err = process.communicate(timeout=traffic.PATIENCE)
    assert err == ""
    (refusal,) = out.splitlines()  # of the larger ring alone
    what = r"what describes the blocks of a packet ring of 16777216 bytes"
    assert re.match(rf"\[Errno \d+\] lock {what} \(lock\): ", refusal)
    assert re.search(r"RLIMIT_MEMLOCK .* CAP_IPC_LOCK.*\bring=", refusal)


@pytest.mark.parametrize(
    ("memory", "text", "note"),
    [
        (["prefault", "lock"], r"lock \d+ bytes \(lock, prefault\): Cannot", "RLIMIT_MEMLOCK"),
        (["prefault"], r"reserve \d+ bytes \(prefault\): Cannot", r"lower the size \(max_memory="),
        (["huge"], r"reserve \d+ bytes \(huge\): Cannot", r"lower the size \(max_memory="),
    ],
)
def test_a_refusal_leaves_the_socket_as_it_was(
    monkeypatch: pytest.MonkeyPatch, memory: list[str], text: str, note: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(Receiver, "_reserve", refuse, raising=True)
    with traffic.bound_socket() as sock:
        with pytest.raises(OSError, match=rf"^\[Errno 12\] {text}") as caught:
            Receiver.from_socket(sock, memory=memory)
        (remedy,) = caught.value.__notes__
        assert re.search(note, remedy)
        assert ("lock" in remedy) == ("lock" in memory)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
        assert sock.fileno() >= 0
