"""The C core alone, under ThreadSanitizer and AddressSanitizer: threads, what no device or system here does, time."""

from __future__ import annotations

import functools
import subprocess
from typing import TYPE_CHECKING, Any

import clab
import pytest
from check_platforms import NOT_UNDER_QEMU, QEMU_PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYSTEMS = {"apple": "darwin"}
"""Whose C core a program is for, where that is not Linux'."""

PROGRAMS: list[Any] = [
    "background_race",
    "pool_race",
    "filter_race",
    "batch_race",
    "latch_race",
    "stamps",
    "times",
    "pace",
    "turns",
    "late",
    "share_race",
    "frame",
    "bpf",
    "netlink",
    pytest.param("packet_race", marks=pytest.mark.needs("packet_socket")),
    pytest.param("ring", marks=pytest.mark.needs("packet_socket")),
    pytest.param("apple", marks=pytest.mark.needs("ipv6")),
]

SANITIZERS = {"thread": {"TSAN_OPTIONS": "halt_on_error=1"}, "address,undefined": {"ASAN_OPTIONS": "detect_leaks=1"}}

# The source tree of an sdist has csrc; tests that run against an installed package elsewhere do not.
pytestmark = pytest.mark.skipif(not clab.CSRC.is_dir(), reason="no C sources beside the tests")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[Path]]:
    """The objects of the C core for a sanitizer and a system, made once."""

    @functools.cache
    def make(sanitizer: str, system: str) -> list[Path]:
        return clab.build_core(sanitizer, tmp_path_factory.mktemp("core"), system=system)

    return make


@pytest.mark.parametrize(
    "sanitizer",
    [
        # Those of one share its objects.
        pytest.param("thread", marks=[pytest.mark.needs("tsan"), pytest.mark.xdist_group("tsan")]),
        pytest.param("address,undefined", marks=[pytest.mark.needs("asan"), pytest.mark.xdist_group("asan")]),
    ],
)
@pytest.mark.parametrize(
    "program",
    PROGRAMS,
)
def test_no_race_and_no_leak(
    program: str, sanitizer: str, tmp_path: Path, core: Callable[[str, str], list[Path]], isolated: None
) -> None:
    system = SYSTEMS.get(program, "linux")
    target = clab.build(program, sanitizer, tmp_path, core(sanitizer, system), system=system)
    result = subprocess.run(
        [str(target)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=clab.environment(**SANITIZERS[sanitizer]),
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")


def test_a_program_that_qemu_does_not_run_says_why() -> None:
    names = {str(program if isinstance(program, str) else program.values[0]) for program in PROGRAMS}
    assert names - SYSTEMS.keys() == {*QEMU_PROGRAMS, *NOT_UNDER_QEMU}
