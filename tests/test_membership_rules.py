"""The state machine of memberships: every step from every state, and the words of a refusal."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv4Interface

import pytest

from mcastfast.interface import Interface
from mcastfast.membership import FilterMode, Membership, Step, transition
from mcastfast.requests import Action

ETH0 = Interface("eth0", 2, (IPv4Interface("10.0.0.1/24"),))
G = IPv4Address("239.1.2.3")
A, B, C = (IPv4Address(f"10.0.0.{number}") for number in (7, 8, 9))

NONE = None
ANY = Membership(G, ETH0, FilterMode.EXCLUDE)
ANY_BUT_A = Membership(G, ETH0, FilterMode.EXCLUDE, (A,))
ANY_BUT_AB = Membership(G, ETH0, FilterMode.EXCLUDE, (A, B))
ONLY_A = Membership(G, ETH0, FilterMode.INCLUDE, (A,))
ONLY_AB = Membership(G, ETH0, FilterMode.INCLUDE, (A, B))

JOIN, LEAVE, BLOCK, UNBLOCK = Action

IN_USE, NOT_THERE, INVALID = errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EINVAL

EVERY_STEP = [
    # before, action, source, after or the code of the refusal
    (NONE, JOIN, None, ANY),
    (NONE, JOIN, A, ONLY_A),
    (NONE, LEAVE, None, NOT_THERE),
    (NONE, LEAVE, A, NOT_THERE),
    (NONE, BLOCK, A, NOT_THERE),
    (NONE, UNBLOCK, A, NOT_THERE),
    (ANY, JOIN, None, IN_USE),
    (ANY, JOIN, A, IN_USE),
    (ANY, LEAVE, None, NONE),
    (ANY, LEAVE, A, INVALID),
    (ANY, BLOCK, A, ANY_BUT_A),
    (ANY, UNBLOCK, A, NOT_THERE),
    (ANY_BUT_A, JOIN, None, IN_USE),
    (ANY_BUT_A, JOIN, A, IN_USE),
    (ANY_BUT_A, JOIN, B, IN_USE),
    (ANY_BUT_A, LEAVE, None, NONE),
    (ANY_BUT_A, LEAVE, A, INVALID),
    (ANY_BUT_A, BLOCK, A, NOT_THERE),
    (ANY_BUT_A, BLOCK, B, ANY_BUT_AB),
    (ANY_BUT_A, UNBLOCK, A, ANY),
    (ANY_BUT_A, UNBLOCK, B, NOT_THERE),
    (ANY_BUT_AB, UNBLOCK, B, ANY_BUT_A),
    (ONLY_A, JOIN, None, IN_USE),
    (ONLY_A, JOIN, A, IN_USE),
    (ONLY_A, JOIN, B, ONLY_AB),
    (ONLY_A, LEAVE, None, NONE),
    (ONLY_A, LEAVE, A, NONE),
    (ONLY_A, LEAVE, B, NOT_THERE),
    (ONLY_A, BLOCK, A, INVALID),
    (ONLY_A, BLOCK, B, INVALID),
    (ONLY_A, UNBLOCK, A, INVALID),
    (ONLY_AB, LEAVE, None, NONE),
    (ONLY_AB, LEAVE, B, ONLY_A),
    (ONLY_AB, LEAVE, C, NOT_THERE),
]


@pytest.mark.parametrize(("before", "action", "source", "expected"), EVERY_STEP)
def test_step_leads_where_the_table_says(
    before: Membership | None, action: Action, source: IPv4Address | None, expected: Membership | int | None
) -> None:
    step = Step(action, G, source, ETH0)
    if isinstance(expected, int):
        with pytest.raises(OSError, match=f"^\\[(Errno|WinError) {expected}\\] {step}: ") as caught:
            transition(before, step)
        assert caught.value.errno == expected
    else:
        assert transition(before, step) == expected


def test_every_pair_of_state_and_step_is_in_the_table() -> None:
    tried = {(before, action, source is not None) for before, action, source, _ in EVERY_STEP}
    for before in (NONE, ANY, ANY_BUT_A, ONLY_A):
        for action in Action:
            assert (before, action, True) in tried
        assert (before, JOIN, False) in tried
        assert (before, LEAVE, False) in tried


@pytest.mark.parametrize("action", [BLOCK, UNBLOCK])
def test_block_without_a_source_is_a_value_error(action: Action) -> None:
    with pytest.raises(ValueError, match=f"{action} 239.1.2.3 on eth0: name the source"):
        transition(ANY, Step(action, G, None, ETH0))


@pytest.mark.parametrize(
    ("before", "action", "source", "words"),
    [
        (ANY, JOIN, A, ["from any source on eth0", "leave that first", "block the sources that are not wanted"]),
        (ONLY_A, JOIN, None, ["239.1.2.3 from 10.0.0.7 on eth0", "leave that first", "join further sources"]),
        (ONLY_A, JOIN, A, ["already joined", "239.1.2.3 from 10.0.0.7 on eth0"]),
        (ANY_BUT_AB, LEAVE, A, ["any source but 10.0.0.7, 10.0.0.8", "leave the group"]),
        (ONLY_A, BLOCK, A, ["239.1.2.3 from 10.0.0.7 on eth0", "join and leave sources instead"]),
        (ANY_BUT_A, BLOCK, A, ["already blocked"]),
        (ONLY_A, LEAVE, B, ["joined is 239.1.2.3 from 10.0.0.7 on eth0"]),
        (NONE, LEAVE, None, ["leave 239.1.2.3 on eth0", "not joined"]),
    ],
)
def test_refusal_says_what_is_joined_and_what_to_do(
    before: Membership | None, action: Action, source: IPv4Address | None, words: list[str]
) -> None:
    with pytest.raises(OSError, match=re_join(words)):
        transition(before, Step(action, G, source, ETH0))


def re_join(words: list[str]) -> str:
    return ".*".join(word.replace(".", r"\.") for word in words)


def test_sources_stand_in_the_order_of_the_calls() -> None:
    state: Membership | None = None
    for source in (C, A, B):
        state = transition(state, Step(JOIN, G, source, ETH0))
    state = transition(state, Step(LEAVE, G, A, ETH0))
    assert state is not None
    assert state.sources == (C, B)
