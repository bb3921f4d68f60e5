"""Whoever waits for ever looks for signals now and then, and the seldomer the longer it waits."""

from __future__ import annotations

import json

import pytest
from clab import build_shim, run_preloaded

pytestmark = pytest.mark.needs("cc")

PROGRAM = """
import ctypes, json, signal, socket, sys
from mcastfast import Batch, Receiver, ReceiverSet

shim = ctypes.CDLL(None)
waits, signals = (ctypes.c_int.in_dll(shim, name) for name in ("waits", "signals"))
waited = (ctypes.c_int * 7).in_dll(shim, "waited")
signal.signal(signal.SIGUSR1, lambda *_: None)
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
    for signals.value in 0, 3:
        waits.value = 0
        try:
            calls[sys.argv[2]]()
        except KeyboardInterrupt:
            seen.append(list(waited))
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the library that does not let polls wait."""
    return build_shim("patient_poll", tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("call", ["recv_batch", "recv_batch_into", "iteration", "set"])
@pytest.mark.parametrize(
    "options",
    [{"engine": "socket"}, {"engine": "portable"}, {"coalesce": True}, {"background": "16 MiB"}, {"spin": 0.02}],
    ids=json.dumps,
)
def test_an_idle_wait_wakes_up_the_seldomer_the_longer_it_lasts(
    shim: str, options: dict[str, object], call: str
) -> None:
    """Each anew; a signal that interrupts it makes no difference."""
    undisturbed = [500, 1000, 2000, 4000, 8000, 8000, 8000]
    with_three_signals = [500, 500, 500, *undisturbed[:4]]
    assert json.loads(run_preloaded(shim, PROGRAM, json.dumps(options), call)) == [undisturbed, with_three_signals]
