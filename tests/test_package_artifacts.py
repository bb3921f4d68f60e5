"""What the sdist and the wheel contain, and that each is enough by itself. Built offline from a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The copy keeps what a developer's tree holds by accident (_core.c, _core.so): the sdist must leave it out.
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "*.egg-info", "*_cache", ".hypothesis", "__pycache__"
)

pytestmark = [pytest.mark.xdist_group("artifacts"), pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True)
class Artifacts:
    sdist: Path
    wheel: Path
    sdist_names: frozenset[str]
    wheel_names: frozenset[str]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """The sdist of the tree, and the wheel built from that sdist once unpacked elsewhere."""
    folder = tmp_path_factory.mktemp("artifacts")
    tree, out = folder / "tree", folder / "dist"
    shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
    (tree / "src/mcastfast/_core.c").touch()
    (tree / "src/mcastfast/_core.so").touch()
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    result = subprocess.run(build, capture_output=True, text=True, check=False, cwd=folder)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    with tarfile.open(sdist) as tar:
        sdist_names = frozenset(member.name.partition("/")[2] for member in tar if member.isfile())
    with zipfile.ZipFile(wheel) as archive:
        wheel_names = frozenset(archive.namelist())
    return Artifacts(sdist, wheel, sdist_names, wheel_names)


def below(folder: str, *patterns: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if any(fnmatch(path.name, pattern) for pattern in patterns) and path.name != "_core.c"
    }


def test_sdist_has_every_source_test_and_page(artifacts: Artifacts) -> None:
    wanted = {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "MANIFEST.in",
        "pyproject.toml",
        "setup.py",
    }
    wanted |= below("csrc", "*.c", "*.h")
    wanted |= below("src", "*.py", "*.pyi", "*.pyx", "*.pxd", "*.pxi", "py.typed")
    wanted |= below("tests", "*.py", "*.c", "*.h") | below("bench", "*.py", "*.c", "*.h")
    wanted |= below("docs", "*.md", "*.toml", "conf.py")
    wanted |= below(".ci", "*") - below(".ci", "__pycache__", "*.pyc") | below(".github", "*.yml")
    assert wanted - artifacts.sdist_names == set()
    assert ".ci/run" in wanted


def test_renamed_source_leaves_nothing_in_the_archive(tmp_path: Path) -> None:
    """Of a build in a tree that was built before; by one small source, since only the archive is of interest."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    csrc = tmp_path / "csrc"
    csrc.mkdir()
    build = [sys.executable, "setup.py", "--quiet", "build_clib", "--build-clib", "made"]
    for name in ("before", "after"):
        (csrc / f"{name}.c").write_text(f"int {name}(void);\nint {name}(void) {{ return 0; }}\n")
        subprocess.run(build, check=True, cwd=tmp_path)
        (csrc / f"{name}.c").unlink()
    content = (tmp_path / "made" / "libmcastfast_c.a").read_bytes()
    assert (b"after.o" in content, b"before.o" in content) == (True, False)


def test_sdist_has_nothing_generated(artifacts: Artifacts) -> None:
    patterns = ("*.so", "*.o", "*.a", "*.pyc", "src/mcastfast/_core.c", "build/*", ".venv*")
    assert [name for name in artifacts.sdist_names if any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_sdist_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    made = []
    for name in ("one", "other"):
        tree = tmp_path / name
        shutil.copytree(ROOT, tree, ignore=NOT_COPIED, copy_function=shutil.copy)  # files of now
        build = [str(tree / ".ci/sdist"), sys.executable, "-m", "build", "--no-isolation", "--sdist"]
        subprocess.run(build, env=os.environ | {"SOURCE_DATE_EPOCH": "1000000000"}, capture_output=True, check=True)
        (sdist,) = (tree / "dist").iterdir()
        made.append(sdist.read_bytes())
    assert made[0] == made[1]


def test_wheel_has_the_package_and_nothing_else(artifacts: Artifacts) -> None:
    outside = {name for name in artifacts.wheel_names if not name.startswith(("mcastfast/", "mcastfast-"))}
    assert outside == set()
    package = {name for name in artifacts.wheel_names if name.startswith("mcastfast/")}
    extensions = {name for name in package if name.endswith(".so")}
    python = {name.removeprefix("src/") for name in below("src", "*.py", "*.pyi", "py.typed")}
    assert package - extensions == python
    assert {Path(name).name.partition(".")[0] for name in extensions} == {"_core"}


@pytest.mark.skipif("-g" in os.environ.get("CFLAGS", "").split(), reason="asked for")
def test_wheel_has_nothing_for_a_debugger(artifacts: Artifacts) -> None:
    """Which would be most of it, and name the folder that it was built in."""
    with zipfile.ZipFile(artifacts.wheel) as archive:
        (name,) = (name for name in artifacts.wheel_names if name.endswith(".so"))
        assert b".debug_info" not in archive.read(name)


def test_wheel_carries_licence_and_metadata(artifacts: Artifacts) -> None:
    with zipfile.ZipFile(artifacts.wheel) as archive:
        (name,) = (name for name in artifacts.wheel_names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in artifacts.wheel_names)
    for line in ("License-Expression: MIT", "Requires-Python: >=3.11", "Provides-Extra: numpy"):
        assert f"\n{line}\n" in metadata
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert required == ["Requires-Dist: rich>=13"]


def test_installed_wheel_imports_away_from_the_tree(artifacts: Artifacts, tmp_path: Path) -> None:
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
    ]
    subprocess.run([*install, str(artifacts.wheel)], check=True, cwd=tmp_path)
    code = "import mcastfast, mcastfast._core as core; print(mcastfast.__file__); print(core.__file__)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(line.startswith(str(tmp_path / "site")) for line in result.stdout.splitlines())


def test_readme_begins_with_commands_of_the_makefile() -> None:
    commands = re.findall(r"^    make ([a-z]+) ", (ROOT / "README.md").read_text(), re.MULTILINE)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert commands[:2] == ["demo", "test"]
    assert set(commands) <= set(targets)
