"""engine="apple" of macOS: there where it can be trusted, refused with the reason elsewhere, and called once a batch.

It runs over macOS' C core on Linux (`make test-apple`), as all of the suite that is not about Linux does then.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import mcastfast
from mcastfast import Batch, Receiver, Sender

if TYPE_CHECKING:
    import netlab

pytestmark = [
    pytest.mark.skipif(os.environ.get("MCASTFAST_SYSTEM") != "darwin", reason="not macOS' C core: make test-apple"),
    pytest.mark.needs("namespaces"),
]

GROUP = "239.1.2.3:5000"
OLD, GOOD = "24.5.0", "24.6.0"  # Darwin of macOS 15.5 and 15.6

REFUSED = """
import socket
from mcastfast import ENGINES, Receiver, Sender, UnsupportedError
from mcastfast.cli import main

assert ENGINES == ("socket", "portable"), ENGINES
opened = []
socket.socket.__init__, init = (lambda *a, **k: (opened.append(a), init(*a, **k))[1]), socket.socket.__init__
ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ours.bind(("127.0.0.1", 0))
ours.connect(ours.getsockname())
opened.clear()
for what in (
    lambda: Receiver("239.1.2.3%lo:5000", engine="apple"),
    lambda: Sender("239.1.2.3%lo:5000", engine="apple"),
    lambda: Receiver.from_socket(ours, engine="apple"),
    lambda: Sender.from_socket(ours, engine="apple"),
):
    try:
        what()
    except UnsupportedError as error:
        print(error)
assert opened == []
try:
    Receiver("239.1.2.3%lo:5000", engine="aple")
except ValueError as error:
    print(error)
ours.close()
"""


def run(program: str, **environment: str) -> list[str]:
    """The lines that it prints."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"DARWIN_RELEASE": OLD}, "before macOS 15.6 recvmsg_x can leave a lock of the kernel behind"),
        ({"LD_PRELOAD": ""}, "this system has no recvmsg_x and sendmsg_x"),
    ],
    ids=["old", "without"],
)
def test_it_is_refused_with_the_reason_before_there_is_a_socket(environment: dict[str, str], reason: str) -> None:
    *refusals, unknown = run(REFUSED, **environment)
    assert len(refusals) == 4
    for refusal in refusals:
        assert refusal.startswith(f"engine='apple' cannot be had: {reason}")
        assert refusal.endswith("; use 'auto'")
    assert f"this system has 'auto', 'socket', 'portable', but not apple: {reason}" in unknown


def test_from_macos_15_6_on_it_is_there_for_those_who_name_it() -> None:
    assert run("import mcastfast; print(mcastfast.ENGINES)", DARWIN_RELEASE=GOOD) == ["('socket', 'portable', 'apple')"]
    assert mcastfast.ENGINES[0] == "socket"


@pytest.mark.parametrize("into", [False, True], ids=["arena", "own"])
def test_a_batch_costs_one_call(loopback: netlab.Link, into: bool) -> None:
    shim = ctypes.CDLL(None)
    received, sent = (ctypes.c_ulong.in_dll(shim, f"count_{name}") for name in ("recvmsg_x", "sendmsg_x"))
    with (
        Receiver(GROUP, interface="lo", engine="apple", metadata=["timestamp", "hops"]) as receiver,
        Sender(GROUP, interface="lo", engine="apple") as sender,
    ):
        before = received.value, sent.value
        assert sender.send_batch([b"payload"] * 64) == 64
        own = Batch(bytearray(64 * 2048))
        assert (receiver.recv_batch_into(own, 0) if into else len(receiver.recv_batch(timeout=0))) == 64
        assert (received.value, sent.value) == (before[0] + 1, before[1] + 1)
