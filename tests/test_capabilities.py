"""What a host lacks skips a test with the reason, and fails it where it was required; nothing is skipped by a typo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import capabilities
import pytest

HERE = Path(__file__).parent

# Runs a command in a user namespace that may have no further namespaces, as hardened hosts and sandboxes do.
FORBID_NAMESPACES = """
import os, sys, netlab
netlab.enter_user_namespace()
for limit in ("max_user_namespaces", "max_net_namespaces"):
    with open(f"/proc/sys/user/{limit}", "w") as file:
        file.write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""


def _pytest(
    directory: Path, tests: str, *options: str, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run pytest with our conftest on this source; PATH is empty, so that no program is found."""
    (directory / "test_inner.py").write_text(f"import os, pytest\n{tests}")
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "MCASTFAST", "PYTEST"))}
    return subprocess.run(
        [*prefix, sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-ra", *options, "."],
        cwd=directory,
        env=kept | {"PATH": "", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


MUST = set(capabilities.PROBES) - {"vlan"}
NEEDS_SOCAT = "@pytest.mark.needs('socat')\ndef test_it(): pass\n"


def test_a_missing_capability_skips_with_the_reason(tmp_path: Path) -> None:
    result = _pytest(tmp_path, NEEDS_SOCAT)
    assert result.returncode == 0, result.stdout
    assert "no socat on PATH" in result.stdout
    assert "1 skipped" in result.stdout


def test_a_missing_capability_fails_where_it_is_required(tmp_path: Path) -> None:
    result = _pytest(tmp_path, NEEDS_SOCAT, "--require=ipv6,socat")
    assert result.returncode == 1, result.stdout
    assert "required capability 'socat' is missing: no socat on PATH" in result.stdout


def test_unknown_names_in_a_mark_and_in_the_option_are_usage_errors(tmp_path: Path) -> None:
    for result in (
        _pytest(tmp_path, "@pytest.mark.needs('socket-cat')\ndef test_it(): pass\n"),
        _pytest(tmp_path, NEEDS_SOCAT, "--require=socket-cat"),
    ):
        assert result.returncode == pytest.ExitCode.USAGE_ERROR
        assert "unknown capability: socket-cat; known: all, namespaces," in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [
        (None, {}, set()),
        ("", {"CI": "true"}, set()),
        (None, {"CI": "true"}, MUST),
        (None, {"CI": "true", "MCASTFAST_REQUIRE": "cc, ipv6"}, {"cc", "ipv6"}),
        ("all", {"MCASTFAST_REQUIRE": "cc"}, MUST),
        ("all, vlan", {}, MUST | {"vlan"}),
    ],
)
def test_the_option_goes_before_the_environment_and_a_list_before_ci(
    option: str | None, environment: dict[str, str], expected: set[str]
) -> None:
    assert capabilities.required(option, environment) == expected


@pytest.mark.needs("namespaces")
def test_a_host_that_refuses_namespaces_skips_what_needs_them_and_runs_the_rest(tmp_path: Path) -> None:
    result = _pytest(
        tmp_path,
        "def test_pure(): pass\n"
        "def test_lan(lan): pass\n"
        "def test_loopback(loopback): pass\n"
        "def test_own(isolated): pass\n"
        "@pytest.mark.needs('namespaces')\ndef test_marked(): pass\n",
        prefix=(sys.executable, "-c", FORBID_NAMESPACES),
    )
    if "Read-only file system" in result.stderr:
        pytest.skip("/proc/sys is read-only here, so no limit can be set")
    assert "1 passed, 4 skipped" in result.stdout, result.stdout + result.stderr
    assert "no network namespace: [Errno 28]" in result.stdout


def test_a_descriptor_left_open_fails_the_test(tmp_path: Path) -> None:
    result = _pytest(tmp_path, "def test_leak(): os.open('/dev/null', os.O_RDONLY)\n")
    assert result.returncode == 1
    assert "descriptors left open" in result.stdout
    assert "/dev/null" in result.stdout
