"""An IPv6 socket has one list of sources for a group: it is kept the same on every interface, or refused."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mcastfast import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    import netlab

A, B = "fd77:1::7", "fd77:1::8"
ANY_SOURCE, SPECIFIC = "ff15::1", "ff3e::8000:1"


@pytest.fixture
def far(lan: netlab.Lan) -> Iterator[str]:
    """The name of an interface beside lo, in whose namespace the test runs."""
    with lan.receiver.namespace:
        yield lan.receiver.name


def test_other_sources_on_another_interface_are_refused_and_change_nothing(far: str) -> None:
    with Receiver(f"{A}@[{SPECIFIC}%lo]:5000", bind="any") as receiver:
        before = receiver.memberships
        with pytest.raises(OSError, match=r"one list of sources.*ReceiverSet") as raised:
            receiver.join(SPECIFIC, B, interface=far)
        assert raised.value.errno == errno.EINVAL
        assert receiver.memberships == before


def test_the_same_sources_on_another_interface_are_joined(far: str) -> None:
    with Receiver(f"{A}@[{SPECIFIC}%lo]:5000", bind="any") as receiver:
        receiver.join(SPECIFIC, A, interface=far)
        assert sorted(joined.interface.name for joined in receiver.memberships) == sorted(["lo", far])


def test_a_block_is_for_all_interfaces_or_none(far: str) -> None:
    with Receiver(f"[{ANY_SOURCE}%lo]:5000", bind="any") as receiver:
        receiver.join(ANY_SOURCE, interface=far)
        with pytest.raises(OSError, match="one list of sources"):
            receiver.block(ANY_SOURCE, A, interface=far)
        receiver.block(ANY_SOURCE, A)
        assert {joined.sources for joined in receiver.memberships} == {receiver.memberships[0].sources}
        with pytest.raises(OSError, match="one list of sources"):
            receiver.unblock(ANY_SOURCE, A, interface="lo")
        receiver.unblock(ANY_SOURCE, A)
        assert {joined.sources for joined in receiver.memberships} == {()}


def test_leaving_all_interfaces_that_were_joined_as_all(far: str) -> None:
    with Receiver(f"[{ANY_SOURCE}]:5000", interface="all", bind="any") as receiver:
        receiver.leave(ANY_SOURCE, interface="all")
        assert receiver.memberships == ()
