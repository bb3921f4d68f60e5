"""The programs that the benchmarks have receive: they end with who started them, and report each load by itself."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING

import pytest
from receivelab import TIMEOUT

import mcastfast

sys.path.append(str(Path(__file__).parent.parent))  # `python -m pytest` has it there, `pytest` has not
from bench.consumers import ANEW, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

ROOT = Path(__file__).parent.parent


@contextmanager
def started(loopback: netlab.Link, way: str, **fields: object) -> Iterator[subprocess.Popen[bytes]]:
    """A consumer that has joined."""
    order = {
        "group": "239.1.2.3",
        "port": 5000,
        "interface": loopback.name,
        "address": loopback.ipv4,
        "buffer": 65536,
        "size": 256,
        "library": "",
        **fields,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "bench.consumers", way, json.dumps(order)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as consumer:
        try:
            assert consumer.stdout is not None
            assert consumer.stdout.readline() == b"ready\n"
            yield consumer
        finally:
            consumer.kill()


def asked(consumer: subprocess.Popen[bytes], line: str) -> State:
    assert consumer.stdin is not None
    assert consumer.stdout is not None
    consumer.stdin.write(line.encode())
    consumer.stdin.flush()
    return State(**json.loads(consumer.stdout.readline()))


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("way", ["recv_into", "socket", "asyncio"])
def test_it_ends_when_nobody_can_ask_any_more(loopback: netlab.Link, way: str) -> None:
    with loopback.namespace, started(loopback, way) as consumer:
        assert consumer.stdin is not None
        consumer.stdin.close()
        assert consumer.wait(TIMEOUT) == 0


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("way", ["recv_into", "socket", "asyncio"])
def test_the_latencies_of_one_load_are_not_those_of_the_loads_before(loopback: netlab.Link, way: str) -> None:
    def offer(sender: mcastfast.Sender, age: int, consumer: subprocess.Popen[bytes], until: int) -> State:
        sender.send_batch([struct.pack("=q", monotonic_ns() - age)] * 10)
        deadline = monotonic() + TIMEOUT
        while (state := asked(consumer, "\n")).received < until:
            assert monotonic() < deadline
        return state

    with (
        loopback.namespace,
        started(loopback, way, latencies=True) as consumer,
        mcastfast.Sender("239.1.2.3", port=5000, interface=loopback.name) as sender,
    ):
        assert offer(sender, 10**18, consumer, 10).percentiles["50"] >= 10**18
        assert asked(consumer, ANEW).percentiles == {}
        assert offer(sender, 0, consumer, 20).percentiles["99.9"] < 10**18
