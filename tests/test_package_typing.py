"""The package's types, as a user's type checker sees them."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING

import pytest

import mcastfast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.xdist_group("typing"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def mypy(cache: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    options = ["--strict", "--no-error-summary", "--config-file=", f"--cache-dir={cache}", "--scripts-are-modules"]
    command = [sys.executable, "-m", "mypy", *options, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cache)


NOT_AS_IT_RUNS = r"""
mcastfast\..*\.__class_getitem__ # of generic named tuples: typeshed has that of tuple
mcastfast\.commands\.selftest_machine\.wine_version # functools.cache
mcastfast\.commands\.arguments\.Subparsers # for type checkers alone
"""
"""Names of which types and running code need not agree, as regular expressions."""


def test_types_agree_with_what_runs(tmp_path: Path) -> None:
    """Those of the extension's stub and, with them, those of the Python modules."""
    allowed = tmp_path / "allowed"
    allowed.write_text(NOT_AS_IT_RUNS)
    # Which of them are told differs between versions of Python.
    command = [
        sys.executable,
        "-m",
        "mypy.stubtest",
        "mcastfast",
        f"--allowlist={allowed}",
        "--ignore-unused-allowlist",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def public_functions(value: object) -> Iterator[Callable[..., object]]:
    """A function, or those of a class that have annotations: methods and what properties call."""
    for name, member in vars(value).items() if isinstance(value, type) else [("", value)]:
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if isinstance(function, FunctionType) and (not name.startswith("_") or name == "__init__"):
            yield function


@pytest.mark.parametrize("name", mcastfast.__all__)
def test_annotations_can_be_read_at_run_time(name: str) -> None:
    value = getattr(mcastfast, name)
    if isinstance(value, type):
        typing.get_type_hints(value)
    for function in public_functions(value):
        assert typing.get_type_hints(function)


def test_stub_of_the_package_names_what_the_package_gives() -> None:
    described: dict[str, object] = {}
    exec(Path(mcastfast.__file__).with_suffix(".pyi").read_text(), described)
    assert sorted(described["__all__"]) == sorted(mcastfast.__all__)  # type: ignore[call-overload]
    assert [name for name in mcastfast.__all__ if getattr(mcastfast, name) is not described[name]] == []


def test_package_says_that_it_is_typed() -> None:
    assert Path(mcastfast.__file__).with_name("py.typed").exists()


def test_users_program_passes_strict_checking(cache: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import mcastfast

def total(group: str) -> int:
    size = 0
    with mcastfast.Receiver(group, interface="lo", metadata=("destination",)) as receiver:
        for batch in receiver:
            for datagram in batch:
                size += len(datagram) + sum(datagram)
            payloads: list[bytes] = batch.payloads()
            size += len(payloads)
            if size > 1000:
                break
    return size

with mcastfast.Sender("239.1.2.3:5000", interface="lo", ttl=0) as sender:
    sent: int = sender.send_batch([b"one", bytearray(b"two")])
"""
    )
    result = mypy(cache, program)
    assert result.returncode == 0, result.stdout


MISTAKES = [
    'mcastfast.Receiver("239.1.2.3:5000", batch_size="many")',
    'mcastfast.Receiver("239.1.2.3:5000", no_such_option=1)',
    'mcastfast.Receiver("239.1.2.3:5000").recv_batch("soon")',
    'mcastfast.Receiver("239.1.2.3:5000").recv_batch().payloads()[0].encode()',
    "mcastfast.Receiver(port=5000).nothing",
    'mcastfast.Sender("239.1.2.3:5000").send("text")',
]


def test_users_mistakes_are_found(cache: Path, tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text("\n".join(["import mcastfast", *MISTAKES, ""]))
    result = mypy(cache, program)
    found = {int(line) for line in re.findall(r"wrong\.py:(\d+): error", result.stdout)}
    assert found == set(range(2, 2 + len(MISTAKES))), result.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_the_page_pass_strict_checking(cache: Path, tmp_path: Path, page: Path) -> None:
    programs = []
    for number, block in enumerate(PYTHON_BLOCK.findall(page.read_text())):
        programs.append(tmp_path / f"example_{number}.py")
        programs[-1].write_text(block)
    if programs:
        result = mypy(cache, *programs)
        assert result.returncode == 0, result.stdout
