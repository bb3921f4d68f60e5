"""Start-up: what `import mcastfast` adds to a fresh interpreter, beside `import socket`. Nanoseconds per start."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING

import pytest

from bench.contest import Contestant, Turn
from bench.rig import replayed_time

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 25
MODULES = ("socket", "mcastfast", "asyncio")


def _start(module: str) -> Contestant:
    command = [sys.executable, "-c", f"import {module}"]

    def turn() -> Turn:
        start = perf_counter_ns()
        subprocess.run(command, check=True)
        return Turn(perf_counter_ns() - start)

    return turn


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("work", ["import"])
def test_import(rig: Rig, benchmark: BenchmarkFixture, work: str, module: str) -> None:
    records = rig.contest(work, ROUNDS, lambda stack: {name: _start(name) for name in MODULES})
    rig.report(benchmark, work, module, records)
