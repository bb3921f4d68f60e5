"""The programs that the benchmarks have receive: they end with who started them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from receivelab import TIMEOUT

if TYPE_CHECKING:
    import netlab

ROOT = Path(__file__).parent.parent


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("way", ["recv_into", "socket", "asyncio"])
def test_it_ends_when_nobody_can_ask_any_more(loopback: netlab.Link, way: str) -> None:
    order = {
        "group": "239.1.2.3",
        "port": 5000,
        "interface": loopback.name,
        "address": loopback.ipv4,
        "buffer": 65536,
        "size": 256,
        "library": "",
    }
    with (
        loopback.namespace,
        subprocess.Popen(
            [sys.executable, "-m", "bench.consumers", way, json.dumps(order)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as consumer,
    ):
        try:
            assert consumer.stdout is not None
            assert consumer.stdout.readline() == b"ready\n"
            assert consumer.stdin is not None
            consumer.stdin.close()
            assert consumer.wait(TIMEOUT) == 0
        finally:
            consumer.kill()
