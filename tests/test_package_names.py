"""What `import mcastfast` gives, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from types import ModuleType

import pytest

import mcastfast


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_listed_name_resolves() -> None:
    assert [name for name in mcastfast.__all__ if not hasattr(mcastfast, name)] == []
    assert len(set(mcastfast.__all__)) == len(mcastfast.__all__)


def test_nothing_else_is_public() -> None:
    public = {name for name in dir(mcastfast) if not name.startswith("_")}
    public -= {name for name in public if isinstance(getattr(mcastfast, name), ModuleType)}
    assert public == set(mcastfast.__all__)


@pytest.mark.parametrize("kind", [mcastfast.Background, mcastfast.Ring])
def test_what_a_user_asks_for_has_fields_alone(kind: type[mcastfast.Background | mcastfast.Ring]) -> None:
    public = {name for name in dir(kind) if not name.startswith("_")}
    assert public - set(dir(tuple)) == set(kind._fields)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mcastfast' has no attribute 'Receivr'"):
        _ = mcastfast.Receivr  # type: ignore[attr-defined]


def test_modules_are_imported_with_the_first_of_their_names() -> None:
    """A program pays for what it uses of the package, and `import mcastfast` for nothing."""
    code = """
import sys, mcastfast
before = sorted(name for name in sys.modules if name.startswith("mcastfast."))
group = mcastfast.Group.parse("239.1.2.3:5000")
print(before, "mcastfast.address" in sys.modules, "mcastfast.receiver" in sys.modules)
"""
    assert run(code).strip() == "[] True False"


def test_every_public_class_and_function_says_its_contract() -> None:
    values = {name: getattr(mcastfast, name) for name in mcastfast.__all__}
    undocumented = {name for name, value in values.items() if callable(value) and not (value.__doc__ or "").strip()}
    assert undocumented == set()


def test_version_is_the_installed_one() -> None:
    assert mcastfast.__version__ == version("mcastfast")


def test_import_leaves_heavy_modules_alone() -> None:
    heavy = ["argparse", "asyncio", "ctypes", "multiprocessing", "numpy", "rich", "subprocess"]
    code = "import sys, json; from mcastfast import *; print(json.dumps(list(sys.modules)))"
    assert set(heavy) & set(json.loads(run(code))) == set()


def test_subinterpreter_is_refused_with_import_error() -> None:
    code = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import mcastfast._core
script = '''
try:
    import mcastfast._core
except ImportError:
    pass
else:
    raise SystemExit("imported")
'''
failure = interpreters.run_string(interpreters.create(), script)
assert failure is None, failure
print("refused")
"""
    assert run(code).strip() == "refused"
