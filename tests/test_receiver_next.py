"""A step of an iteration goes straight to the extension type, in classes of Python too, unless they have their own."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from mcastfast import Receiver, ReceiverSet, _core

_PY_TP_ITERNEXT = 63  # typeslots.h


class Derived(Receiver):
    pass


class Counting(Receiver):
    def __next__(self) -> Any:
        return super().__next__()


def _step(cls: type) -> int:
    """What takes a step of such an iterator."""
    get_slot = ctypes.pythonapi.PyType_GetSlot
    get_slot.restype, get_slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    return int(get_slot(cls, _PY_TP_ITERNEXT))


@pytest.mark.parametrize("cls", [Receiver, Derived])
def test_a_step_is_that_of_the_extension(cls: type) -> None:
    assert _step(cls) == _step(_core.ReceiverCore)


def test_a_class_may_have_its_own_step() -> None:
    assert _step(Counting) != _step(_core.ReceiverCore)


@pytest.mark.parametrize("cls", [Receiver, ReceiverSet])
def test_the_step_can_be_called_by_its_name_for_its_own_objects_alone(cls: type) -> None:
    with pytest.raises(TypeError, match=r"requires a .* object but received a 'int'"):
        cls.__next__(3)  # type: ignore[attr-defined]
