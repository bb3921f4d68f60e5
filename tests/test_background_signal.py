"""Whoever takes the last batch does not wait until the thread that brought it has said that it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clab import build_shim, run_preloaded

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("namespaces", "cc", "ipv6")

PROGRAM = """
import ctypes, select, socket, sys, threading, time
from mcastfast import Receiver

family, host = (socket.AF_INET, "127.0.0.1") if sys.argv[1] == "v4" else (socket.AF_INET6, "::1")
held, waits = (ctypes.c_int.in_dll(ctypes.CDLL(None), name) for name in ("held", "waits"))
sock, peer = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
sock.bind((host, 0))

def is_readable():
    return bool(select.select([receiver], [], [], 0)[0])

with Receiver.from_socket(sock, background="16 MiB") as receiver:
    guard = threading.Timer(20, setattr, (held, "value", 0))  # so that a wait without end is a failure
    guard.start()
    held.value = 1
    peer.sendto(b"one", receiver.address)
    while not waits.value:
        time.sleep(0.001)
    assert not is_readable()
    for payload in (b"one", b"two", b"three"):
        assert receiver.recv_batch(0).payloads() == [payload]
        try:
            receiver.recv_batch(0)
        except BlockingIOError:
            pass
        else:
            raise AssertionError("there was nothing")
        assert held.value, "it waited for the signal"
        if payload == b"three":
            break
        held.value = 0
        while waits.value or not is_readable():
            time.sleep(0.001)
        held.value = 1
        try:
            receiver.recv_batch(0)  # takes the late signal away
        except BlockingIOError:
            pass
        assert not is_readable()
        peer.sendto(b"two" if payload == b"one" else b"three", receiver.address)
        while not waits.value:
            time.sleep(0.001)
    held.value = 0
    try:
        receiver.recv_batch(0.1)  # the late signal does not end the wait
    except TimeoutError:
        pass
    assert not is_readable()
    peer.sendto(b"four", receiver.address)
    assert receiver.recv_batch(20).payloads() == [b"four"]
    guard.cancel()
print("ok")
"""


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_take_between_the_entry_and_its_signal_returns_at_once(isolated: None, family: str, tmp_path: Path) -> None:
    assert run_preloaded(build_shim("slow_signal", tmp_path), PROGRAM, family) == "ok\n"
