"""Start-up: what an import adds to a fresh interpreter, beside `import socket`. Nanoseconds per start.

"mcastfast" is the package, which imports its modules when they are first used, so that it costs next to nothing;
"mcastfast-used" takes what a program uses, "mcastfast-all" every name. With bytecode, as pip leaves an installed
package, whatever the environment says about writing it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING

import pytest

from bench.contest import Contestant, Turn
from bench.rig import replayed_time

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from bench.rig import Rig

pytestmark = pytest.mark.benchmark(timer=replayed_time)

ROUNDS = 25
IMPORTS = {
    "socket": "import socket",
    "mcastfast": "import socket, mcastfast",
    "mcastfast-used": "import socket; from mcastfast import Receiver, Sender",
    "mcastfast-all": "import socket; from mcastfast import *",
    "asyncio": "import asyncio",
}


def _start(statement: str, bytecode: Path) -> Contestant:
    command = [sys.executable, "-c", statement]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def turn() -> Turn:
        start = perf_counter_ns()
        subprocess.run(command, check=True, env=environment)
        return Turn(perf_counter_ns() - start)

    return turn


@pytest.mark.parametrize("name", IMPORTS)
@pytest.mark.parametrize("work", ["import"])
def test_import(rig: Rig, benchmark: BenchmarkFixture, tmp_path: Path, work: str, name: str) -> None:
    records = rig.contest(work, ROUNDS, lambda stack: {who: _start(how, tmp_path) for who, how in IMPORTS.items()})
    rig.report(benchmark, work, name, records)
