"""The session's rig, in a network of its own, and the table and the charts at the end."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from bench import charts, machine
from bench.namespace import enter_private_network
from bench.report import PART, RESULTS, Results, is_whole, print_table
from bench.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSAL = pytest.StashKey[OSError]()
_RIG = pytest.StashKey[Rig]()
_LEFT_OUT = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    # The table at the end says it all. pytest-benchmark's own, sorted by time, is there with --benchmark-verbose.
    config.option.benchmark_quiet = True
    # Here and not in a fixture: an ordinary user gets a namespace only before the first thread, and NumPy starts some.
    try:
        enter_private_network()
    except OSError as error:
        config.stash[_REFUSAL] = error


@pytest.fixture(scope="session")
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    config = request.config
    if _REFUSAL in config.stash:
        # Nothing may be sent on the host's own interfaces, and a shared loopback is no place to measure.
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(f"no network namespace: {config.stash[_REFUSAL]}")
    # Workers of pytest-xdist disturb each other: pytest-benchmark measures nothing there, and neither do the contests.
    smoke = config.getoption("benchmark_disable") or hasattr(config, "workerinput")
    rig = Rig(tmp_path_factory.mktemp("climit"), smoke=smoke)
    config.stash[_RIG] = rig
    yield rig
    rig.close()


def pytest_deselected(items: list[pytest.Item]) -> None:
    items[0].config.stash[_LEFT_OUT] = True


def pytest_terminal_summary(exitstatus: int, config: pytest.Config) -> None:
    if _RIG not in config.stash or not (rig := config.stash[_RIG]).rows:
        return
    results = Results(machine.block(rig.granted), machine.missing(), rig.rows)
    if rig.smoke:
        # Drawn all the same, where nobody looks: the smoke test is of everything.
        with TemporaryDirectory() as directory:
            charts.draw(results, Path(directory))
        return
    print_table(rig.rows)
    ignores = any(config.getoption(option) for option in ("ignore", "ignore_glob"))
    left_out = ignores or config.stash.get(_LEFT_OUT, False)
    kept = RESULTS if is_whole(config.args, exitstatus, left_out=left_out) else PART
    results.save(kept)
    for file in (kept, *charts.draw(results, kept.parent)):
        print(file)
    if kept is PART:
        print(f"not all benchmarks ran and passed: {RESULTS}, of which `make performance` writes, is as it was")
