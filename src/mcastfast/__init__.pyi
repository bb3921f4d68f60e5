"""The public names, each where its class stands; `__init__.py` imports them when they are first used."""

from mcastfast._core import ENGINES, Batch, Datagram, DatagramFlag, ReceiverSet
from mcastfast.address import Group
from mcastfast.background import Background
from mcastfast.buffers import BufferClampedWarning
from mcastfast.errors import UnsupportedError
from mcastfast.interface import Interface, interfaces
from mcastfast.membership import FilterMode, Membership, Refusal
from mcastfast.receiver import Receiver, ReceiverStats
from mcastfast.ring import Ring
from mcastfast.scope import TTL, GroupFlag, Scope, SSMAllocation
from mcastfast.sender import Sender, SenderStats
from mcastfast.timestamps import KernelTimestampWarning

__version__: str

__all__ = [
    "ENGINES",
    "TTL",
    "Background",
    "Batch",
    "BufferClampedWarning",
    "Datagram",
    "DatagramFlag",
    "FilterMode",
    "Group",
    "GroupFlag",
    "Interface",
    "KernelTimestampWarning",
    "Membership",
    "Receiver",
    "ReceiverSet",
    "ReceiverStats",
    "Refusal",
    "Ring",
    "SSMAllocation",
    "Scope",
    "Sender",
    "SenderStats",
    "UnsupportedError",
    "interfaces",
]
