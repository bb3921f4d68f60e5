"""The package's types, as a user's type checker sees them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mcastfast

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


def test_stub_of_the_extension_agrees_with_it() -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "mcastfast._core"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


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
                size += len(datagram)
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
