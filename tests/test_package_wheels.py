"""For which Pythons and systems there are wheels, and that the workflow makes just these."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import capabilities
import pytest

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "wheels.yml"
CI = WORKFLOW.with_name("ci.yml")

PYTHONS = ("cp311", "cp312", "cp313", "cp314", "cp314t", "cp315", "cp315t")
TAGS = {
    ("linux", "x86_64"): ("manylinux_x86_64", "musllinux_x86_64"),
    ("linux", "aarch64"): ("manylinux_aarch64", "musllinux_aarch64"),
    ("macos", "x86_64"): ("macosx_x86_64",),
    ("macos", "arm64"): ("macosx_arm64",),
    ("windows", "AMD64"): ("win_amd64",),
    ("windows", "ARM64"): ("win_arm64",),
}

CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEELS = CONFIGURATION["tool"]["cibuildwheel"]

FINDER = ROOT / ".ci" / "find_pythons.py"

needs_finder = pytest.mark.skipif(not FINDER.is_file(), reason="no .ci beside the tests")
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
    groups = CONFIGURATION["dependency-groups"]
    pinned = next(each for each in groups["wheels"] if each.startswith("cibuildwheel=="))
    assert re.findall(r"cibuildwheel==[\d.]+", WORKFLOW.read_text()) == [pinned]


def job(workflow: Path, name: str) -> str:
    """The lines of one job."""
    (found,) = re.findall(rf"^  {name}:\n((?:    .*\n|\n)+)", workflow.read_text(), re.MULTILINE)
    return str(found)


def required_by(names: str) -> frozenset[str]:
    return capabilities.required(None, {"CI": "true", "MCASTFAST_REQUIRE": names})


def test_tests_of_a_wheel_require_no_more_than_its_system_has() -> None:
    everywhere, in_container = WHEELS["test-environment"], WHEELS["linux"]["test-environment"]
    assert required_by(everywhere["MCASTFAST_REQUIRE"]) == {"numpy"}
    assert "numpy>=1.26" in CONFIGURATION["dependency-groups"]["test-wheel"]
    assert required_by(in_container["MCASTFAST_REQUIRE"]) == {"numpy", "namespaces"}
    assert in_container == everywhere | {"MCASTFAST_REQUIRE": in_container["MCASTFAST_REQUIRE"]}


def test_tests_of_a_wheel_run_side_by_side_where_each_has_a_network() -> None:
    *_, one_by_one = WHEELS["test-command"]
    assert WHEELS["linux"]["test-command"] == [
        *WHEELS["test-command"][:-1],
        f"{one_by_one} -n auto --dist loadgroup",
    ]
    assert "-n " not in one_by_one


def test_tests_in_a_container_may_have_namespaces() -> None:
    assert WHEELS["linux"]["container-engine"] == {"name": "docker", "create-args": ["--privileged"]}


@needs_workflow
def test_other_systems_of_ci_require_what_is_installed_there() -> None:
    choice = r"startsWith\(matrix\.runner, 'ubuntu'\) && '(\S+)' \|\| '(\S+)'"
    ((on_linux, elsewhere),) = re.findall(
        rf"^      MCASTFAST_REQUIRE: \$\{{{{ {choice} }}}}$", job(CI, "others"), re.MULTILINE
    )
    assert required_by(on_linux) == required_by(WHEELS["linux"]["test-environment"]["MCASTFAST_REQUIRE"])
    assert required_by(elsewhere) == required_by(WHEELS["test-environment"]["MCASTFAST_REQUIRE"])


@needs_workflow
@pytest.mark.parametrize("name", ["linux", "others"])
def test_ubuntu_lets_ordinary_users_have_namespaces(name: str) -> None:
    steps = job(CI, name)
    assert steps.count("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\n") == 1
    assert steps.index("userns=0\n") < min(steps.index(tests) for tests in (".ci/run <", "-m pytest") if tests in steps)


def test_wheels_for_macos_are_for_the_release_that_is_compiled_for_and_promised() -> None:
    release = WHEELS["macos"]["environment"]["MACOSX_DEPLOYMENT_TARGET"]
    compiled = re.findall(r"-macos\.([\d.]+)", (ROOT / "tests" / "check_platforms.py").read_text())
    promised = re.findall(r"macOS (\d+) and later, x86-64", (ROOT / "docs" / "platforms.md").read_text())
    assert set(compiled) == {release} == {f"{major}.0" for major in promised}


@needs_workflow
def test_wheels_are_made_from_the_sdist_alone() -> None:
    making = job(WORKFLOW, "wheels")
    assert "needs: sdist" in making
    assert "actions/checkout" not in making
    assert re.search(r"-m cibuildwheel .* sdist/\*\.tar\.gz$", making, re.MULTILINE)


@needs_workflow
def test_who_publishes_may_prove_who_it_is_and_nobody_else() -> None:
    text, publishing = WORKFLOW.read_text(), job(WORKFLOW, "publish")
    assert "\npermissions: {}\n" in text
    assert text.count("id-token: write") == publishing.count("id-token: write") == 1
    assert re.search(r"uses: pypa/gh-action-pypi-publish@\w{40} .*\n +with:\n +attestations: true\n", publishing)
    assert "needs: [sdist, wheels, ci]" in publishing
    assert "uses: $/.github/workflows/ci.yml\n" in job(WORKFLOW, "ci")
    assert "\n  workflow_call:" in CI.read_text()
    assert "startsWith(github.ref, 'refs/tags/v')" in publishing


def put_python(path: Path, abi: str) -> Path:
    """What answers as a Python of this ABI; "": none that is wanted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n[ -z '{abi}' ] || echo '{abi}'\n")
    path.chmod(0o755)
    return path


@needs_finder
def test_wheels_are_made_here_for_each_cpython_that_is_found(tmp_path: Path) -> None:
    folder, versions = tmp_path / "bin", tmp_path / "pyenv" / "versions"
    wanted = [
        Path(sys.executable),
        put_python(folder / "python3.90", "cpython-390"),
        put_python(folder / "python3.90t", "cpython-390t"),
        put_python(versions / "3.91.1" / "bin" / "python3.91", "cpython-391"),
    ]
    put_python(folder / "python3.10", "")
    put_python(folder / "python3.90-config", "no Python")
    put_python(folder / "python3.9", "").chmod(0o644)
    put_python(versions / "3.90.1" / "bin" / "python3.90", "cpython-390")
    environment = {"PATH": str(folder), "PYENV_ROOT": str(versions.parent)}
    result = subprocess.run(
        [sys.executable, FINDER], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines() == list(map(str, wanted))


@needs_finder
def test_ci_names_no_python_to_make_wheels_for() -> None:
    (command,) = re.findall(r"^make wheels .*", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert "PYTHONS" not in command
    assert re.search(r"^PYTHONS \?=$", (ROOT / "Makefile").read_text(), re.MULTILINE)
