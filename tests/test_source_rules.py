"""The rules of the house that a compiler does not check."""

from __future__ import annotations

import ast
import re
import subprocess
import sysconfig
from fnmatch import fnmatch
from pathlib import Path

import clab
import hostlab
import portable
import pytest
from capabilities import MINGW

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
CSRC = ROOT / "csrc"
C_FILES = sorted([*CSRC.rglob("*.c"), *CSRC.rglob("*.h")])
HEADERS = [path for path in C_FILES if path.suffix == ".h"]
SHARED_C_FILES = [path for path in C_FILES if path.parent == CSRC]
PYTHON_FILES = sorted((ROOT / "src").rglob("*.py"))
OWN_FILES = sorted(
    path
    for folder in ("csrc", "src", "tests", "bench", "docs", "examples")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".c", ".h", ".py", ".pyi", ".pyx", ".pxd", ".pxi", ".md"} and path.name != "_core.c"
)

CONDITIONAL = re.compile(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|elifdef|elifndef)\b[ \t]*(\w*)", re.MULTILINE)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SHARED_C_FILES, ids=relative)
def test_shared_c_has_no_conditional_but_its_include_guard(path: Path) -> None:
    text = path.read_text()
    found = CONDITIONAL.findall(text)
    if path.suffix == ".h":
        guard = path.name.upper().replace(".", "_")
        assert found[:1] == [("ifndef", guard)], f"{path.name} starts with no include guard {guard}"
        found = found[1:]
    assert found == []


def for_windows(path: Path) -> bool:
    """Whether a header is of the backend that this system's own compiler cannot compile."""
    return path.parent.name == "windows"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.needs("mingw")] * for_windows(path)) for path in HEADERS],
    ids=map(relative, HEADERS),
)
def test_header_compiles_alone(path: Path, tmp_path: Path) -> None:
    compiler = MINGW if for_windows(path) else sysconfig.get_config_var("CC").split()[0]
    unit = tmp_path / "unit.c"
    unit.write_text(f'#include "{path}"\nint mcf_translation_unit_is_not_empty;\n')
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{CSRC}", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_c_core_of_linux_compiles_with_the_headers_of_the_glibc_of_wheels() -> None:
    compiler = sysconfig.get_config_var("CC").split()[0]
    options = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{clab.OLD_HEADERS}", f"-I{CSRC}"]
    command = [compiler, *options, *map(str, sorted((CSRC / "linux").glob("*.c")))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", HEADERS, ids=relative)
def test_header_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 130


@pytest.mark.parametrize("path", C_FILES, ids=relative)
def test_c_core_knows_no_python(path: Path) -> None:
    assert "Python.h" not in path.read_text()


def test_setup_script_stays_under_80_lines() -> None:
    assert len((ROOT / "setup.py").read_text().splitlines()) < 80


@pytest.mark.parametrize("path", PYTHON_FILES, ids=relative)
def test_only_the_option_table_touches_socket_options(path: Path) -> None:
    calls = [
        f"line {node.lineno}: {node.func.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"setsockopt", "getsockopt"}
    ]
    assert path.name == "options.py" or calls == []


@pytest.mark.parametrize("path", OWN_FILES, ids=relative)
def test_nothing_is_left_for_later(path: Path) -> None:
    marks = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3))
    found = re.findall(rf"\b(?:{marks})\b.*", path.read_text())
    assert found == []


def test_portable_tests_import_nothing_from_netlab_that_hostlab_lacks() -> None:
    elsewhere = set(dir(hostlab))
    files = [path for path in TESTS.glob("*.py") if not any(fnmatch(path.name, of) for of in portable.LINUX_ONLY)]
    imports = [
        (path.name, name.name)
        for path in files
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom) and node.module == "netlab"
        for name in node.names
    ]
    assert imports
    assert [f"{file}: {name}" for file, name in imports if name not in elsewhere] == []
