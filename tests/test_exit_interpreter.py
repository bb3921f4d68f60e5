"""The interpreter ends in order whatever a receiver is doing: exit code 0, nothing on stderr, no waiting."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest
from memorylab import SANITIZED

PRELUDE = """
import atexit, gc, os, signal, socket, sys, threading
from mcastfast import Batch, Receiver, ReceiverSet, Sender

def opened(**options):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return Receiver.from_socket(sock, engine=sys.argv[1], **options)

def connected(receiver):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(receiver.address)
    return Sender.from_socket(sock)

def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    while True:
        with open(f"/proc/self/task/{thread.native_id}/syscall") as file:
            if file.read().split()[0] in {"7", "271", "73", "168", "309", "336"}:
                return thread
"""

PROGRAMS = {
    "daemon thread blocked in recv_batch": """
        receiver = opened()
        in_thread(receiver.recv_batch)
    """,
    "daemon thread blocked in an iteration": """
        receiver = opened()
        in_thread(lambda: list(receiver))
    """,
    "daemon thread blocked in recv_batch_into": """
        receiver = opened()
        memory = bytearray(4096)
        batch = Batch(memory)
        in_thread(lambda: receiver.recv_batch_into(batch))
    """,
    "daemon thread blocked in a set": """
        both = ReceiverSet([opened(), opened()])
        in_thread(both.recv_batch)
    """,
    "close from atexit while a daemon thread is blocked": """
        receiver = opened()
        atexit.register(receiver.close)
        in_thread(lambda: list(receiver))
    """,
    "close from a finalizer at exit while a daemon thread is blocked": """
        receiver = opened()
        class Application:
            def __init__(self, receiver):
                self.receiver = receiver
            def __del__(self):
                self.receiver.close()
        application = Application(receiver)
        in_thread(receiver.recv_batch)
    """,
    "set closed from a finalizer at exit while a daemon thread is blocked": """
        both = ReceiverSet([opened(), opened()])
        class Application:
            def __init__(self, both):
                self.both = both
            def __del__(self):
                self.both.close()
        application = Application(both)
        in_thread(both.recv_batch)
    """,
    "daemon thread in the middle of a flood": """
        receiver = opened(batch_size=4)
        sender = connected(receiver)
        def flood():
            while True:
                sender.send_batch([b"x"] * 8)
        def drain():
            for batch in receiver:
                for datagram in batch:
                    len(datagram)
        threading.Thread(target=flood, daemon=True).start()
        threading.Thread(target=drain, daemon=True).start()
        while receiver.stats.batches < 100:
            pass
    """,
    "receive thread in the middle of a flood": """
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        receiver = opened(background="4 MiB")
        sender = connected(receiver)
        def flood():
            while True:
                sender.send_batch([b"x"] * 8)
        def drain():
            for batch in receiver:
                len(batch)
        threading.Thread(target=flood, daemon=True).start()
        threading.Thread(target=drain, daemon=True).start()
        while receiver.stats.batches < 100:
            pass
    """,
    "receive threads that nobody closed": """
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        receiver = opened(background="4 MiB")
        class Node:
            pass
        node = Node()
        node.me, node.receiver = node, opened(background="4 MiB")
        sys.kept = opened(background="4 MiB")
    """,
    "receive thread, fork, then exit of both": """
        receiver = opened(background="4 MiB")
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        receiver.close()
    """,
    "views in globals and cycles": """
        with opened() as receiver, connected(receiver) as sender:
            sender.send_batch([b"first", b"second"])
            batch = receiver.recv_batch(10)
        datagram, view, data, column = batch[0], memoryview(batch[0]), batch.data, batch.lengths
        class Node:
            pass
        node = Node()
        node.me, node.batch, node.view, node.receiver = node, batch, view, receiver
        iterator = iter(batch)
        next(iterator)
        del batch
    """,
    "views that a thread holds": """
        with opened() as receiver, connected(receiver) as sender:
            sender.send(b"first")
            batch = receiver.recv_batch(10)
        event = threading.Event()
        def hold(batch=batch):
            view = memoryview(batch[0])
            started.set()
            event.wait()
        started = threading.Event()
        threading.Thread(target=hold, daemon=True).start()
        started.wait()
    """,
    "array over a batch in a module that goes early": """
        import numpy
        with opened() as receiver, connected(receiver) as sender:
            sender.send_batch([b"12345678"] * 3)
            batch = receiver.recv_batch(10)
        sys.kept = batch.records("u8"), numpy.asarray(batch.source_addresses), batch[0]
    """,
    "fork, then exit of both": """
        receiver = opened()
        in_thread(lambda: list(receiver))
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
        receiver.close()
    """,
}


def _run(program: str, engine: str) -> subprocess.CompletedProcess[str]:
    text = PRELUDE + textwrap.dedent(program)
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-W",
        "error",
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        text,
        engine,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_exits_in_order_with(engine: str, name: str) -> None:
    if SANITIZED and name == "receive thread, fork, then exit of both":
        pytest.skip("the sanitizer's allocator is not made for forks beside other threads")
    result = _run(PROGRAMS[name], engine)
    assert (result.returncode, result.stderr) == (0, "")


def test_receiver_left_open_is_warned_about_and_closed(engine: str) -> None:
    result = _run("import warnings; warnings.simplefilter('always'); receiver = opened(); del receiver", engine)
    assert result.returncode == 0
    assert "ResourceWarning: unclosed <Receiver 127.0.0.1 port" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_process_that_is_blocked_in_a_receive(engine: str, number: signal.Signals) -> None:
    program = PRELUDE + "receiver = opened()\nprint('ready', flush=True)\nreceiver.recv_batch()\n"
    with subprocess.Popen(
        [sys.executable, "-c", program, engine], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == -number
    if number == signal.SIGINT:
        assert errors.splitlines()[-1].startswith("KeyboardInterrupt")


def test_extension_refuses_a_second_interpreter() -> None:
    program = """
import mcastfast._core
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
other = interpreters.create()
script = '''
import mcastfast
try:
    mcastfast.Receiver
except ImportError:
    pass
else:
    raise SystemExit("imported")
'''
result = (getattr(interpreters, "run_string", None) or interpreters.exec)(other, script)
assert result is None, result
interpreters.destroy(other)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
