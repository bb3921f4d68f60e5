"""The engines are what they say: which system calls each makes, counted between the program and libc."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from clab import build_shim, run_preloaded
from receivelab import FAMILIES, Family, at, family_name

from mcastfast import ENGINES

if TYPE_CHECKING:
    import netlab

pytestmark = pytest.mark.needs("namespaces", "ipv6", "cc")

COUNT = 64
"""Datagrams that are there at once: a batch."""

PRELUDE = """
import ctypes, json, socket, sys
from mcastfast import Batch, Receiver, ReceiverSet, Sender

group, options = sys.argv[1], json.loads(sys.argv[2])
CALLS = ("recv", "recvfrom", "recvmsg", "recvmmsg", "send", "sendto", "sendmsg", "sendmmsg", "poll")
counters = {name: ctypes.c_ulong.in_dll(ctypes.CDLL(None), f"count_{name}") for name in CALLS}

def calls(expected, function, *arguments):
    before = {name: counter.value for name, counter in counters.items()}
    result = function(*arguments)
    made = {name: counter.value - before[name] for name, counter in counters.items()}
    assert result == expected, result
    print(json.dumps({name: number for name, number in made.items() if number}))

def queue(count):
    with Sender(group) as sender:
        assert sender.send_batch([b"%d" % number for number in range(count)]) == count
"""

RECEIVES = {
    "recv_batch": "calls(64, lambda: len(receiver.recv_batch(timeout=0)))",
    "recv_batch_into": "calls(64, receiver.recv_batch_into, Batch(bytearray(64 * 2048)), 0)",
    "iteration": "calls(64, lambda: len(next(iter(receiver))))",
    "set": "with ReceiverSet([receiver]) as both: calls(64, lambda: len(both.recv_batch(timeout=0)[1]))",
}
LOOKING = {"set": {"poll": 1}}
"""What a set asks beside, to be fair to its other receivers."""

SENDS = {
    "list": "[b'%d' % number for number in range(64)]",
    "array": "memoryview(bytes(64 * 8)).cast('B', (64, 8))",
    "batch": "received",
}

# None: engine= is not given.
receive_calls = pytest.mark.parametrize(
    ("chosen", "expected"),
    [("socket", {"recvmmsg": 1}), ("portable", {"recvmsg": COUNT}), ("auto", {"recvmmsg": 1}), (None, {"recvmmsg": 1})],
)
send_calls = pytest.mark.parametrize(
    ("chosen", "expected"),
    [("socket", {"sendmmsg": 1}), ("portable", {"send": COUNT}), ("auto", {"sendmmsg": 1}), (None, {"sendmmsg": 1})],
)
families = pytest.mark.parametrize("family", FAMILIES, ids=family_name)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the library that counts."""
    return build_shim("count_calls", tmp_path_factory.mktemp("shim"))


def calls_made(shim: str, program: str, group: str, chosen: str | None, **options: Any) -> dict[str, int]:
    """The calls that the program's calls() counted."""
    if chosen is not None:
        options["engine"] = chosen
    counted: dict[str, int] = json.loads(run_preloaded(shim, PRELUDE + program, group, json.dumps(options)))
    return counted


def test_every_engine_of_this_host_is_known_here() -> None:
    assert ENGINES == ("socket", "portable")


@families
@pytest.mark.parametrize("metadata", [[], ["destination", "timestamp", "drops", "hops", "tos"]], ids=["bare", "all"])
@pytest.mark.parametrize("receive", RECEIVES)
@receive_calls
def test_a_queued_batch_costs_one_recvmmsg_or_a_recvmsg_a_datagram(
    loopback: netlab.Link,
    shim: str,
    family: Family,
    receive: str,
    metadata: list[str],
    chosen: str | None,
    expected: dict[str, int],
) -> None:
    program = f"""
with Receiver(group, **options) as receiver:
    queue(64)
    {RECEIVES[receive]}
"""
    made = calls_made(shim, program, at(family.group, loopback), chosen, metadata=metadata)
    assert made == expected | LOOKING.get(receive, {})


@pytest.mark.parametrize(
    ("chosen", "metadata", "expected"),
    [
        ("socket", [], {"recvfrom": 1}),
        ("socket", ["hops"], {"recvmmsg": 1}),
        ("portable", [], {"recvmsg": 1}),
        ("portable", ["hops"], {"recvmsg": 1}),
    ],
)
@families
def test_a_lone_datagram_costs_one_call(
    loopback: netlab.Link, shim: str, family: Family, chosen: str, metadata: list[str], expected: dict[str, int]
) -> None:
    program = """
with Receiver(group, batch_size=1, **options) as receiver:
    queue(1)
    calls(1, lambda: len(receiver.recv_batch(timeout=0)))
"""
    assert calls_made(shim, program, at(family.group, loopback), chosen, metadata=metadata) == expected


@families
@pytest.mark.parametrize("form", SENDS)
@send_calls
def test_a_batch_is_sent_by_one_sendmmsg_or_a_send_a_datagram(
    loopback: netlab.Link, shim: str, family: Family, form: str, chosen: str | None, expected: dict[str, int]
) -> None:
    program = f"""
with Receiver(group) as receiver, Sender(group, **options) as sender:
    queue(64)
    received = receiver.recv_batch(timeout=0)
    calls(64, sender.send_batch, {SENDS[form]})
"""
    assert calls_made(shim, program, at(family.group, loopback), chosen, segment=False) == expected


@families
@pytest.mark.parametrize("chosen", [*ENGINES, "auto"])
def test_after_lone_datagrams_a_receive_waits_before_it_asks(
    loopback: netlab.Link, shim: str, family: Family, chosen: str
) -> None:
    """On a quiet feed nothing is there yet, and asking for it first would be a call for nothing, each time."""
    program = """
def wait():
    try:
        receiver.recv_batch(timeout=0.001)
    except TimeoutError:
        return "timed out"

with Receiver(group, **options) as receiver:
    for turn in range(40):
        queue(1)
        assert len(receiver.recv_batch(timeout=0)) == 1
        if turn < 39:
            assert wait() == "timed out"
    calls("timed out", wait)
"""
    assert calls_made(shim, program, at(family.group, loopback), chosen) == {"poll": 1}


@families
@pytest.mark.parametrize(("form", "call"), [("list", "sendmmsg"), ("array", "sendmsg"), ("batch", "sendmmsg")])
def test_all_trains_of_a_batch_leave_in_one_call(
    loopback: netlab.Link, shim: str, family: Family, form: str, call: str
) -> None:
    """Ten payloads of one byte and 54 of two, or 64 rows of one size."""
    program = f"""
with Receiver(group) as receiver, Sender(group) as sender:
    queue(64)
    received = receiver.recv_batch(timeout=0)
    calls(64, sender.send_batch, {SENDS[form]})
"""
    assert calls_made(shim, program, at(family.group, loopback), None) == {call: 1}


@families
@pytest.mark.parametrize("chosen", [*ENGINES, "auto"])
def test_a_lone_payload_costs_one_send(loopback: netlab.Link, shim: str, family: Family, chosen: str) -> None:
    program = """
with Sender(group, **options) as sender:
    calls(None, sender.send, b"payload")
"""
    assert calls_made(shim, program, at(family.group, loopback), chosen) == {"send": 1}


CARRIED = {
    "recv_batch": "calls(48, lambda: sum(len(receiver.recv_batch(timeout=0)) for _ in range(3)))",
    "waiting": "calls(48, lambda: sum(len(receiver.recv_batch()) for _ in range(3)))",
    "recv_batch_into": "calls(48, lambda: sum(receiver.recv_batch_into(own, 0) for _ in range(3)))",
    "iteration": "calls(48, lambda: sum(len(batch) for _, batch in zip(range(3), receiver)))",
    "datagrams": "calls(48, lambda: len(list(zip(range(48), receiver.datagrams()))))",
    "set": "with ReceiverSet([receiver]) as both: calls(48, lambda: sum(len(both.recv_batch(0)[1]) for _ in range(3)))",
}


@families
@pytest.mark.parametrize("receive", CARRIED)
def test_the_rest_of_a_train_costs_no_call(loopback: netlab.Link, shim: str, family: Family, receive: str) -> None:
    program = f"""
own = Batch(bytearray(16 * 2048))
with Receiver(group, batch_size=16, coalesce=True) as receiver:
    queue(64)
    assert len(receiver.recv_batch(timeout=0)) == 16
    {CARRIED[receive]}
"""
    made = calls_made(shim, program, at(family.group, loopback), None)
    assert made == {name: 3 * count for name, count in LOOKING.get(receive, {}).items()}


@families
@pytest.mark.parametrize("receive", RECEIVES)
def test_two_trains_cost_one_recvmmsg(loopback: netlab.Link, shim: str, family: Family, receive: str) -> None:
    program = f"""
with Receiver(group, **options) as receiver:
    queue(64)
    {RECEIVES[receive]}
"""
    made = calls_made(shim, program, at(family.group, loopback), None, coalesce=True)
    assert made == {"recvmmsg": 1} | LOOKING.get(receive, {})


@families
def test_a_long_train_that_came_alone_is_no_reason_to_look_for_more(
    loopback: netlab.Link, shim: str, family: Family
) -> None:
    """As one would be that brought all that there was room for."""
    program = """
train = [bytes(1400)] * 46

def receive_each():
    received = 0
    for _ in range(6):
        sender.send_batch(train)
        batch = receiver.recv_batch()  # the last is kept meanwhile
        received += len(batch)
        try:
            receiver.recv_batch(0.001)
        except TimeoutError:
            pass
    return received

with Receiver(group, coalesce=True, receive_buffer=1 << 20) as receiver, Sender(group, segment=True) as sender:
    receive_each()
    calls(6 * 46, receive_each)
"""
    made = calls_made(shim, program, at(family.group, loopback), None)
    assert (made["recvmmsg"], made["poll"]) == (6, 6)


@pytest.mark.needs("packet_socket")
@families
@pytest.mark.parametrize("spin", [0.0, 1.0])
@pytest.mark.parametrize("receive", ["receiver.recv_batch(timeout=10)", "next(iter(receiver))"])
def test_a_block_that_is_there_costs_no_call(
    loopback: netlab.Link, shim: str, family: Family, receive: str, spin: float
) -> None:
    """Nothing was behind the block before; that this one is there now is seen in the ring."""
    program = f"""
from select import select

with Receiver(group, engine="packet", **options) as receiver:
    for count in (3, 5):
        queue(count)
        assert select([receiver], [], [], 10)[0]
        if count == 3:
            assert len(receiver.recv_batch(timeout=0)) == 3
    calls(5, lambda: len({receive}))
"""
    assert calls_made(shim, program, at(family.group, loopback), None, spin=spin) == {}
