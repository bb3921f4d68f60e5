"""SPEAD packets: spead2 receives no others. Each carries one whole heap of one item, which is the payload."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import spead2.send

HEADER = 48  # bytes before the payload: the magic, four pointers every packet has, and the item's
_ITEM = 0x1000


def heap(size: int) -> spead2.send.Heap:
    """Return a heap of one item of so many bytes, to be sent any number of times."""
    import numpy
    import spead2.send

    item = spead2.Item(
        _ITEM, "payload", "", shape=(size,), dtype=numpy.uint8, value=numpy.zeros(size, dtype=numpy.uint8)
    )
    made = spead2.send.Heap(spead2.Flavour(4, 64, 48))
    made.add_item(item)
    return made


def largest_packet(size: int) -> int:
    """Return what to allow spead2 for a payload of that size: it rounds down to multiples of 8."""
    return HEADER + size + 7


def packets(count: int, size: int) -> ctypes.Array[ctypes.c_char]:
    """Return so many packets, each with a payload of that size and a heap number of its own."""
    import spead2.send

    template = heap(size)
    made = b"".join(
        bytes(packet)
        for number in range(1, count + 1)
        for packet in spead2.send.PacketGenerator(template, number, largest_packet(size))
    )
    if len(made) != count * (HEADER + size):
        raise RuntimeError(f"SPEAD: {count} heaps of {size} bytes make {len(made)} bytes, not {HEADER + size} each")
    return (ctypes.c_char * len(made)).from_buffer_copy(made)
