"""The C core alone, under ThreadSanitizer and AddressSanitizer: what threads share, and what no device here sends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CSRC = TESTS.parent / "csrc"
SANITIZERS = {"thread": {"TSAN_OPTIONS": "halt_on_error=1"}, "address,undefined": {"ASAN_OPTIONS": "detect_leaks=1"}}

# The source tree of an sdist has csrc; tests that run against an installed package elsewhere do not.
pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="no C sources beside the tests")


def _environment(**more: str) -> dict[str, str]:
    """Without what the sanitized test run preloads: each program brings its own runtime."""
    return {name: text for name, text in os.environ.items() if name not in {"LD_PRELOAD", "ASAN_OPTIONS"}} | more


def _build(program: str, sanitizer: str, folder: Path) -> Path:
    target = folder / program
    sources = [TESTS / "c" / f"{program}.c", *sorted(CSRC.glob("*.c"))]
    sources += [path for backend in ("linux", "posix") for path in sorted((CSRC / backend).glob("*.c"))]
    flags = [
        "-std=c11",
        "-g",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-fsanitize={sanitizer}",
        "-fno-sanitize-recover=all",
    ]
    command = ["cc", *flags, f"-I{CSRC}", "-o", str(target), *map(str, sources), "-lpthread"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=_environment())
    assert result.returncode == 0, result.stderr
    return target


@pytest.mark.parametrize(
    "sanitizer",
    [
        pytest.param("thread", marks=pytest.mark.needs("tsan")),
        pytest.param("address,undefined", marks=pytest.mark.needs("asan")),
    ],
)
@pytest.mark.parametrize("program", ["pool_race", "filter_race", "stamps"])
def test_no_race_and_no_leak(program: str, sanitizer: str, tmp_path: Path, isolated: None) -> None:
    target = _build(program, sanitizer, tmp_path)
    result = subprocess.run(
        [str(target)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=_environment(**SANITIZERS[sanitizer]),
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")
