"""Receivers and senders refuse attributes that they have not: a setting that is made too late would do nothing."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import pytest
from receivelab import V4, at

from mcastfast import Receiver, ReceiverSet, Sender

if TYPE_CHECKING:
    from netlab import Link

pytestmark = pytest.mark.needs("namespaces")


def test_what_is_no_attribute_cannot_be_set(loopback: Link) -> None:
    with Receiver(at(V4.group, loopback)) as receiver, Sender(at(V4.group, loopback)) as sender:
        receivers = ReceiverSet([receiver])
        for owner, name in ((receiver, "timeout"), (sender, "rate"), (sender, "ttl"), (receivers, "timeout")):
            with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
                setattr(owner, name, 3)
        assert not hasattr(receiver, "__dict__")
        assert weakref.ref(receiver)() is receiver


def test_what_it_was_opened_with_is_shown_and_stays(loopback: Link) -> None:
    with Receiver(at(V4.group, loopback), batch_size=7, max_datagram=100) as receiver:
        for name, value in (("port", 5000), ("batch_size", 7), ("max_datagram", 100)):
            assert getattr(receiver, name) == value
            with pytest.raises(AttributeError):
                setattr(receiver, name, 3)
    assert receiver.port == 5000


def test_a_subclass_may_have_attributes_of_its_own(loopback: Link) -> None:
    class Named(Receiver):
        name = ""

    with Named(at(V4.group, loopback)) as receiver:
        receiver.name = "ticks"
        assert receiver.name == "ticks"
