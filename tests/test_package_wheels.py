"""For which Pythons and systems there are wheels, and that the workflow makes just these."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "wheels.yml"

PYTHONS = ("cp311", "cp312", "cp313", "cp314", "cp314t", "cp315", "cp315t")
TAGS = {
    ("linux", "x86_64"): ("manylinux_x86_64", "musllinux_x86_64"),
    ("linux", "aarch64"): ("manylinux_aarch64", "musllinux_aarch64"),
    ("macos", "x86_64"): ("macosx_x86_64",),
    ("macos", "arm64"): ("macosx_arm64",),
    ("windows", "AMD64"): ("win_amd64",),
    ("windows", "ARM64"): ("win_arm64",),
}

needs_workflow = pytest.mark.skipif(not WORKFLOW.is_file(), reason="no workflows beside the tests")


@pytest.mark.needs("cibuildwheel")
@pytest.mark.parametrize(("platform", "architecture"), TAGS)
def test_wheels_are_made_for_every_python(platform: str, architecture: str) -> None:
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers"]
    command += ["--platform", platform, "--archs", architecture]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    expected = [f"{python}-{tag}" for tag in TAGS[platform, architecture] for python in PYTHONS]
    assert sorted(result.stdout.split()) == sorted(expected)


@needs_workflow
def test_workflow_has_a_runner_for_every_architecture() -> None:
    runners = re.findall(r"^ +- \{ platform: (\w+), architecture: (\w+), ", WORKFLOW.read_text(), re.MULTILINE)
    assert sorted(runners) == sorted(TAGS)


@needs_workflow
def test_workflow_runs_the_version_of_cibuildwheel_that_is_tested_here() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    pinned = next(each for each in groups["wheels"] if each.startswith("cibuildwheel=="))
    assert re.findall(r"cibuildwheel==[\d.]+", WORKFLOW.read_text()) == [pinned]
