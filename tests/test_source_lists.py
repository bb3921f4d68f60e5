"""The tests' own lists of tests name tests that there are."""

from __future__ import annotations

import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import portable
import pytest
from wine import gaps

HERE = Path(__file__).parent
PATTERNS = [*portable.LINUX_ONLY, *(test for gap in gaps.GAPS.values() for test in gap.tests)]


@pytest.fixture(scope="module")
def collected() -> list[str]:
    """All tests of this system, as "file::test"."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "."]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    result = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return [line.rpartition("/")[2] for line in result.stdout.splitlines() if "::" in line]


def test_every_pattern_matches_a_test(collected: list[str]) -> None:
    names = [*collected, *{name.partition("::")[0] for name in collected}]
    assert [pattern for pattern in PATTERNS if not any(fnmatch(name, pattern) for name in names)] == []


def error_of(code: int) -> OSError:
    return OSError(code, "refused")


@pytest.mark.parametrize(
    ("name", "error", "shows"),
    [
        ("MCAST_*", error_of(gaps.ENOPROTOOPT), True),
        ("MCAST_*", error_of(10022), False),
        ("MCAST_*", AssertionError("10042"), False),
        ("late errors", AssertionError("assert '19' == '0'"), True),
        ("late errors", AssertionError("assert '0' == '19'"), False),
        ("late errors", error_of(gaps.ENOPROTOOPT), False),
    ],
)
def test_a_gap_of_wine_is_shown_by_its_own_failure_alone(name: str, error: Exception, shows: bool) -> None:
    gap = gaps.GAPS[name]
    assert gap.is_shown_by(error) == shows
    assert isinstance(error, gap.raises) or not shows
