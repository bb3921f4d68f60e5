"""Trains as the system gets them: what it refuses, and in what memory they lie, seen between the program and libc."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clab import build_shim, run_preloaded
from receivelab import FAMILIES, Family, at, family_name

if TYPE_CHECKING:
    from netlab import Link

pytestmark = pytest.mark.needs("namespaces", "ipv6", "cc")

families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_shim("trains", tmp_path_factory.mktemp("shim"))


PRELUDE = """
import ctypes, errno, sys
import numpy as np
from mcastfast import Receiver, Sender

group = sys.argv[1]
libraries = ctypes.CDLL(None)
most_segments, refusal, trains = map(ctypes.c_int.in_dll, [libraries] * 3, ("most_segments", "refusal", "trains"))
starts = (ctypes.c_void_p * 256).in_dll(libraries, "starts")
pieces, segments = ((ctypes.c_ulong * 256).in_dll(libraries, name) for name in ("pieces", "segments"))

def passes(sender, payloads, expected=None):
    assert sender.send_batch(payloads) == len(payloads)
    received = []
    while len(received) < len(payloads):
        received += receiver.recv_batch(20).payloads()
    assert received == list(map(bytes, expected or payloads))

def taken(sender, payloads):
    "(start, pieces, datagrams) of each train in which these payloads leave"
    trains.value = 0
    passes(sender, payloads)
    assert trains.value <= 256
    return [(starts[i], pieces[i], segments[i]) for i in range(trains.value)]

def addresses(payloads):
    return [np.frombuffer(payload, "u1").ctypes.data for payload in payloads]

receiver, sender = Receiver(group, receive_buffer=212_992), Sender(group)
"""


def run(shim: str, program: str, link: Link, family: Family) -> None:
    assert run_preloaded(shim, PRELUDE + program + "print('ok')", at(family.group, link)) == "ok\n"


SIXTY_FOUR = """
payloads = [b"%03d" % number for number in range(150)]
for most in (64, 100):
    most_segments.value = most
    for form in (payloads, [bytearray(payload) for payload in payloads], np.array(payloads).view("u1").reshape(150, 3)):
        with Sender(group) as old:
            for _ in range(20):  # the option is kept from the 17th on
                assert [count for _, _, count in taken(old, form)] == [64, 64, 22]
            assert old.segment
            assert old.stats.trains == 60
            assert old.stats[3:5] == (0, 0)
    with Sender(group, segment=True) as old:
        passes(old, payloads)
        assert old.stats.trains == 3
most_segments.value = 63
with Sender(group) as older:
    passes(older, payloads)
    assert not older.segment
"""


@families
def test_a_kernel_that_takes_64_segments_gets_no_more(loopback: Link, shim: str, family: Family) -> None:
    run(shim, SIXTY_FOUR, loopback, family)


FAILING = """
payloads = [bytes([number]) * 100 for number in range(100)]
for code in (errno.EINVAL, errno.EMSGSIZE, errno.EIO, errno.EOPNOTSUPP):
    refusal.value = code
    try:
        sender.send_batch(payloads)
    except OSError as error:
        assert (error.errno, error.sent) == (code, 0)
    else:
        raise AssertionError("sent")
    refusal.value = 0
    assert sender.segment
    before = sender.stats.trains
    assert [count for _, _, count in taken(sender, payloads)] == [100]
    assert sender.stats.trains == before + 1
"""


@families
def test_what_the_system_takes_in_no_form_proves_nothing_of_trains(loopback: Link, shim: str, family: Family) -> None:
    run(shim, FAILING, loopback, family)


IN_PLACE = """
for width, rows in ((32, 128), (256, 64), (900, 40), (1400, 46), (1400, 100)):
    array = np.arange(rows * width, dtype="u4").astype("u1").reshape(rows, width)
    for options in ({}, {"segment": True}, {"rate": "1 Gbit/s", "burst": 1024}):
        with Sender(group, **options) as other:
            for _ in range(20):
                at = array.ctypes.data
                found = taken(other, array)
                assert found
                for start, count, datagrams in found:
                    assert (start, count) == (at, 1)
                    at += datagrams * width
                assert at == array.ctypes.data + array.nbytes
"""


@families
def test_an_array_is_sent_where_it_lies(loopback: Link, shim: str, family: Family) -> None:
    run(shim, IN_PLACE, loopback, family)


RELAYED = """
with Receiver(group.replace("5000", "5001"), coalesce=True, max_datagram=65535, receive_buffer=212_992) as member:
    with Sender(group.replace("5000", "5001")) as source:
        for width in (100, 1000):
            source.send_batch([bytes([number]) * width for number in range(40)])
            batch = member.recv_batch(20)
            assert (np.diff(batch.offsets) == width).all()
            data = np.frombuffer(batch.data, "u1").ctypes.data + batch.offsets[0]
            assert taken(sender, batch) == [(data, 1, 40)]
"""


@families
def test_a_batch_whose_datagrams_lie_in_a_row_is_sent_where_it_lies(loopback: Link, shim: str, family: Family) -> None:
    run(shim, RELAYED, loopback, family)


GATHERED = """
for form in (bytes, bytearray):
    for size in (10, 256, 900):
        payloads = [form([number]) * size for number in range(40)]
        for last in (payloads[-1], payloads[-1][: size // 2]):
            ((start, count, datagrams),) = taken(sender, [*payloads[:-1], last])
            assert (count, datagrams) == (1, 40)
            assert start not in addresses(payloads)
            assert start % 64 == 0  # a line of the cache: csrc/mcf_batch.c says what else can happen
    payloads = [form([number]) * 1400 for number in range(40)]
    assert taken(sender, payloads) == [(addresses(payloads)[0], 40, 40)]
"""


@families
def test_small_payloads_of_a_list_are_copied_into_one_piece_and_large_ones_gathered_by_the_kernel(
    loopback: Link, shim: str, family: Family
) -> None:
    run(shim, GATHERED, loopback, family)
