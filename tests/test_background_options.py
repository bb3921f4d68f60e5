"""What is asked of a receive thread is what it gets, and what cannot be had is one clear error that leaves nothing."""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import sys
from typing import Any

import pytest
from backgroundlab import (
    SIZE,
    is_resting,
    opened,
    receive_thread,
    receive_threads,
    send_slowly,
    status,
    tasks,
    wait_until_seen,
)
from netlab import wait_until
from receivelab import descriptors
from traffic import PATIENCE, bound_socket, feed

from mcastfast import Background, Receiver
from mcastfast.buffers import set_largest_receive_buffer

MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no number": ("much", ValueError, "background='much' is not a size: write bytes, or text like \"256 MiB\""),
    "no unit": ("4096", ValueError, "background='4096' is not a size"),
    "unknown unit": ("1 MIB", ValueError, "background='1 MIB' is not a size"),
    "stray underscore": ("1_ MiB", ValueError, "background='1_ MiB' is not a size"),
    "empty": ("", ValueError, "background='' is not a size"),
    "more digits than Python reads": ("9" * 5000 + " B", ValueError, "9 B' is not a size: write bytes, or text"),
    "negative text": ("-1 MiB", ValueError, "background='-1 MiB' is not a size"),
    "other digits": ("\u0663 MiB", ValueError, "is not a size"),
    "zero": (0, ValueError, "background=0 is not above 0 bytes"),
    "zero in text": ("0.1 B", ValueError, "background='0.1 B' is not above 0 bytes"),
    "negative": (-1, ValueError, "background=-1 is not above 0 bytes"),
    "float": (1e6, TypeError, "background=1000000.0 is not a size: give bytes as a whole number"),
    "bool": (True, TypeError, "background=True is not a size"),
    "bytes": (b"1 MiB", TypeError, "background=b'1 MiB' is not a size"),
    "more than memory": (MEMORY + 1, ValueError, f"is more than this machine's memory, {MEMORY} bytes"),
    "absurd": ("9" * 400 + " GiB", ValueError, "is more than this machine's memory"),
    "too small": (1, ValueError, "background=1 is too small: batch_size="),
    "too small in text": ("1 B", ValueError, "background='1 B': size=1 is too small: batch_size="),
    "too small among others": (Background("1 B"), ValueError, "background='1 B': size=1 is too small: batch_size="),
    "no processor": (Background(SIZE, cpus=()), ValueError, "background: cpus=() is not one or more numbers"),
    "negative processor": (Background(SIZE, cpus=[-1]), ValueError, "background: cpus=[-1] is not one or more"),
    "huge processor": (Background(SIZE, cpus=[2**16]), ValueError, "background: cpus=[65536] is not one or more"),
    "processors as text": (Background(SIZE, cpus="0"), TypeError, "background: cpus='0' is not a list of numbers"),  # type: ignore[arg-type]
    "one processor": (Background(SIZE, cpus=0), TypeError, "background: cpus=0 is not a list of numbers"),  # type: ignore[arg-type]
    "name that cannot be spelled": (Background(SIZE, name="\ud800"), ValueError, r"name='\ud800' is not 1 to 15 bytes"),
    "no name": (Background(SIZE, name=""), ValueError, "background: name='' is not 1 to 15 bytes"),
    "long name": (Background(SIZE, name="\u00e4" * 8), ValueError, "is not 1 to 15 bytes"),
    "name with NUL": (Background(SIZE, name="a\0b"), ValueError, "is not 1 to 15 bytes"),
    "name of bytes": (Background(SIZE, name=b"x"), TypeError, "background: name=b'x' is not text"),  # type: ignore[arg-type]
    "negative priority": (Background(SIZE, priority=-1), ValueError, "background: priority=-1 is not in 0 to 99"),
    "high priority": (Background(SIZE, priority=100), ValueError, "background: priority=100 is not in 0 to 99"),
    "priority as text": (Background(SIZE, priority="high"), TypeError, "background: priority='high' is not a whole"),  # type: ignore[arg-type]
    "negative delay": (Background(SIZE, delay=-0.1), ValueError, "background: delay=-0.1 is not in 0 to 10.0 seconds"),
    "long delay": (Background(SIZE, delay=11), ValueError, "background: delay=11 is not in 0 to 10.0 seconds"),
    "no delay": (Background(SIZE, delay=float("nan")), ValueError, "background: delay=nan is not in 0 to 10.0"),
    "delay as text": (Background(SIZE, delay="1"), TypeError, "background: delay='1' is not a number of seconds"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_asked_for_is_refused_before_there_is_a_socket_or_a_thread(case: str) -> None:
    background, error, text = WRONG[case]
    before, running = descriptors(), tasks()
    with pytest.raises(error, match=re.escape(text)):
        Receiver("239.1.2.3:5000", interface="lo", background=background)
    assert (descriptors(), tasks()) == (before, running)


def test_memory_is_given_once() -> None:
    with pytest.raises(ValueError, match="background= and max_memory= are the same memory: give the first alone"):
        Receiver("239.1.2.3:5000", interface="lo", background=SIZE, max_memory=2**24)


@pytest.mark.parametrize("size", [2**24, "16 MiB", "16777.216 kB", "0.015625 GiB", " 16_777_216B "])
def test_sizes_are_bytes_or_text(size: Any) -> None:
    with feed(background=size, coalesce=False, batch_size=64) as quiet:
        send_slowly(quiet, range(9000))
        assert quiet.receiver.stats.overrun > 0
        assert 2**24 * 0.9 < 2048 * quiet.receiver.stats.datagrams < 2**24


def test_the_thread_has_its_name_and_its_processors() -> None:
    (allowed, *_) = sorted(os.sched_getaffinity(0))
    with feed(background=Background(SIZE, cpus=iter([allowed]), name="feed \u00e4 15 byte")):
        task = receive_thread("feed \u00e4 15 byte")
        assert status(task)["Cpus_allowed_list"] == str(allowed)
        assert os.sched_getscheduler(task) == os.SCHED_OTHER
    assert not receive_threads("feed \u00e4 15 byte")


def test_processors_that_are_not_there_are_an_error_with_the_remedy() -> None:
    before, running = descriptors(), tasks()
    with pytest.raises(OSError, match=r"start receive thread of 239\.1\.2\.3%lo port 5000 with") as caught:
        Receiver("239.1.2.3:5000", interface="lo", background=Background(SIZE, cpus=[4095]))
    assert "os.sched_getaffinity(0)" in caught.value.__notes__[0]
    assert (descriptors(), tasks()) == (before, running)


def test_a_socket_is_given_back_when_the_thread_cannot_start() -> None:
    with bound_socket() as sock:
        with pytest.raises(OSError, match="start receive thread"):
            Receiver.from_socket(sock, background=Background(SIZE, cpus=[4095]))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            sock.settimeout(PATIENCE)
            peer.sendto(b"still mine", sock.getsockname())
            assert sock.recv(100) == b"still mine"


_PRIORITY = """
import os, resource, sys
from mcastfast import Background, Receiver
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
limit = int(sys.argv[1])
try:
    resource.setrlimit(resource.RLIMIT_RTPRIO, (limit, limit))
except (ValueError, PermissionError):
    print("no limit")
    raise SystemExit
if os.geteuid() == 0:
    try:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    except OSError:  # a user namespace of one user, whose root has no such right
        pass
try:
    receiver = Receiver.from_socket(sock, background=Background("4 MiB", priority=7))
except PermissionError as error:
    print(error, *error.__notes__, len(os.listdir("/proc/self/task")))
else:
    for task in map(int, os.listdir("/proc/self/task")):
        if task != os.getpid():
            print(os.sched_getscheduler(task) == os.SCHED_FIFO, os.sched_getparam(task).sched_priority)
    receiver.close()
"""


def _with_limit(limit: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PRIORITY, str(limit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_priority_without_the_right_is_an_error_with_the_remedy() -> None:
    found = _with_limit(0)
    assert "start receive thread of 127.0.0.1 port" in found
    assert "Operation not permitted A real-time priority needs CAP_SYS_NICE, or a limit" in found
    assert found.endswith(" 1\n")


def test_a_priority_within_the_limit_is_granted() -> None:
    if resource.getrlimit(resource.RLIMIT_RTPRIO)[1] < 10 and os.geteuid() != 0:
        pytest.skip("RLIMIT_RTPRIO is 0, and only root may raise it")
    found = _with_limit(10)
    if "no limit" in found or "not permitted" in found:
        pytest.skip(f"no real-time priority for anyone here: {found.strip()}")
    assert found == "True 7\n"


_AS_ROOT = """
import os, resource, socket
from mcastfast import Background, Receiver
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
try:
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(7))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
except PermissionError as error:
    print("skip", error)
else:
    with Receiver.from_socket(sock, background=Background("4 MiB", priority=7)):
        for task in map(int, os.listdir("/proc/self/task")):
            is_real_time = os.sched_getscheduler(task) == os.SCHED_FIFO
            print(task == os.getpid(), is_real_time, os.sched_getparam(task).sched_priority)
"""


def test_a_priority_is_granted_to_who_needs_no_limit() -> None:
    done = subprocess.run([sys.executable, "-c", _AS_ROOT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if done.stdout.startswith("skip"):
        pytest.skip(f"no real-time priority for this user here: {done.stdout[5:].strip()}")
    assert sorted(done.stdout.splitlines()) == ["False True 7", "True False 0"]


def test_a_delay_lets_more_gather() -> None:
    with feed(background=Background(SIZE, delay=2.0), coalesce=False) as quiet:
        receiver, task = opened(quiet)
        quiet.send(b"first")
        wait_until(lambda: is_resting(task), PATIENCE)
        for _ in range(20):
            quiet.send(b"x")
        wait_until_seen(receiver, 21)
        assert receiver.stats.batches == 1
        assert receiver.recv_batch(0).payloads() == [b"first", *[b"x"] * 20]


def _receive_buffer(receiver: Receiver) -> int:
    with receiver.detach() as sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_the_receive_buffer_is_the_largest_that_anyone_is_granted(loopback: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**30)
        largest = probe.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert _receive_buffer(Receiver("239.1.2.3:5000", interface="lo", background=SIZE)) == largest
    told = Receiver("239.1.2.3:5000", interface="lo", background=SIZE, receive_buffer=65536)
    assert _receive_buffer(told) == 2 * 65536


@pytest.mark.needs("forced_buffer")
def test_a_receive_buffer_above_the_largest_is_left_alone() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, 33, 2**29)  # SO_RCVBUFFORCE
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        set_largest_receive_buffer(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before


def test_a_burst_after_a_quiet_time_is_there_after_one_delay() -> None:
    """Lone datagrams are asked for one by one, but not once each delay."""
    with feed(background=Background(SIZE, delay=0.2), coalesce=False) as quiet:
        for _ in range(20):
            quiet.send(b"lone")
            quiet.receiver.recv_batch(PATIENCE)
        before = quiet.receiver.stats.batches
        quiet.sender.send_batch([b"burst"] * 40)
        left = 40
        while left:
            left -= len(quiet.receiver.recv_batch(PATIENCE))
        assert quiet.receiver.stats.batches - before <= 3
