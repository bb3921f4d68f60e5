"""UDP multicast for Python at the speed of C: batched, zero-copy receive and send.

Example::

    with mcastfast.Receiver("239.1.2.3:5000", interface="eth0") as receiver:
        for batch in receiver:
            for datagram in batch:
                handle(datagram)
"""

import importlib

__version__ = "0.1.0"

# Who imports the package pays for what is used of it: a module is imported with the first of its names.
_HOMES = {
    "ENGINES": "_core",
    "TTL": "scope",
    "Background": "background",
    "Batch": "_core",
    "BufferClampedWarning": "buffers",
    "Datagram": "_core",
    "DatagramFlag": "_core",
    "FilterMode": "membership",
    "Group": "address",
    "GroupFlag": "scope",
    "Interface": "interface",
    "KernelTimestampWarning": "timestamps",
    "Membership": "membership",
    "Receiver": "receiver",
    "ReceiverSet": "_core",
    "ReceiverStats": "receiver",
    "Refusal": "membership",
    "Ring": "ring",
    "SSMAllocation": "scope",
    "Scope": "scope",
    "Sender": "sender",
    "SenderStats": "sender",
    "UnsupportedError": "errors",
    "interfaces": "interface",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
