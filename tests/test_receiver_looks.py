"""Whoever waits for ever looks for signals now and then, and the seldomer the longer it waits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from clab import build_shim, run_preloaded

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("namespaces", "cc")

PROGRAM = """
import ctypes, json, socket, sys
from mcastfast import Batch, Receiver, ReceiverSet

shim = ctypes.CDLL(None)
waits, waited = ctypes.c_int.in_dll(shim, "waits"), (ctypes.c_int * 7).in_dll(shim, "waited")
options = json.loads(sys.argv[1])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
calls = {
    "recv_batch": lambda: receiver.recv_batch(),
    "recv_batch_into": lambda: receiver.recv_batch_into(Batch(bytearray(2048))),
    "iteration": lambda: next(receiver),
    "set": lambda: ReceiverSet([receiver]).recv_batch(),
}
seen = []
with Receiver.from_socket(sock, **options) as receiver:
    for _ in range(2):
        waits.value = 0
        try:
            calls[sys.argv[2]]()
        except KeyboardInterrupt:
            seen.append(list(waited))
print(json.dumps(seen))
"""


@pytest.mark.parametrize("call", ["recv_batch", "recv_batch_into", "iteration", "set"])
@pytest.mark.parametrize(
    "options",
    [{"engine": "socket"}, {"engine": "portable"}, {"coalesce": True}, {"background": "16 MiB"}, {"spin": 0.02}],
    ids=json.dumps,
)
def test_an_idle_wait_wakes_up_the_seldomer_the_longer_it_lasts(
    tmp_path: Path, options: dict[str, object], call: str
) -> None:
    shim = build_shim("patient_poll", tmp_path)
    one_wait = [500, 1000, 2000, 4000, 8000, 8000, 8000]
    assert json.loads(run_preloaded(shim, PROGRAM, json.dumps(options), call)) == [one_wait, one_wait]
