"""UDP multicast for Python at the speed of C: batched, zero-copy receive and send.

Example::

    with mcastfast.Receiver("239.1.2.3:5000", interface="eth0") as receiver:
        for batch in receiver:
            for datagram in batch:
                handle(datagram)
"""

from mcastfast._core import ENGINES, Batch, Datagram, DatagramFlag, ReceiverSet
from mcastfast.address import Group
from mcastfast.buffers import BufferClampedWarning
from mcastfast.errors import UnsupportedError
from mcastfast.interface import Interface, interfaces
from mcastfast.membership import FilterMode, Membership
from mcastfast.receiver import Receiver, ReceiverStats
from mcastfast.scope import TTL, GroupFlag, Scope
from mcastfast.sender import Sender, SenderStats

__version__ = "0.1.0"

__all__ = [
    "ENGINES",
    "TTL",
    "Batch",
    "BufferClampedWarning",
    "Datagram",
    "DatagramFlag",
    "FilterMode",
    "Group",
    "GroupFlag",
    "Interface",
    "Membership",
    "Receiver",
    "ReceiverSet",
    "ReceiverStats",
    "Scope",
    "Sender",
    "SenderStats",
    "UnsupportedError",
    "__version__",
    "interfaces",
]
