"""The options of a receiver's socket are those that its arguments ask for: what is not asked for costs nothing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from receivelab import FAMILIES, PORT, Family, at, family_name, is_empty, plain_socket, sources

from mcastfast import BufferClampedWarning, Receiver, options
from mcastfast.options import get_option

if TYPE_CHECKING:
    import socket

    from netlab import Link

    from mcastfast.options import Option

pytestmark = [
    pytest.mark.needs("namespaces"),
    pytest.mark.needs("ipv6"),
    pytest.mark.parametrize("family", FAMILIES, ids=family_name),
]

OPTION_OF: dict[str, Option[bool]] = {
    "destination": options.PACKET_INFO,
    "timestamp": options.TIMESTAMPS,
    "drops": options.DROP_COUNTER,
    "hops": options.RECEIVE_HOPS,
    "tos": options.RECEIVE_TOS,
}
ASKED = [(), *((name,) for name in OPTION_OF), *itertools.combinations(OPTION_OF, 4), tuple(OPTION_OF)]
HUGE = 2**31 - 1
"""More than any kernel grants, whoever asks."""

asked = pytest.mark.parametrize("names", ASKED, ids=lambda names: "+".join(names) or "none")


def switched_on(sock: socket.socket) -> set[str]:
    """The metadata whose options are on."""
    return {name for name, option in OPTION_OF.items() if get_option(sock, option)}


@asked
def test_a_bound_group_switches_on_what_metadata_names_and_nothing_else(
    loopback: Link, family: Family, engine: str, names: tuple[str, ...]
) -> None:
    with Receiver(at(family.group, loopback), bind="group", metadata=names, engine=engine).detach() as sock:
        assert switched_on(sock) == set(names)


@asked
def test_bind_any_switches_on_the_packet_information_too(
    loopback: Link, family: Family, engine: str, names: tuple[str, ...]
) -> None:
    with Receiver(at(family.group, loopback), bind="any", metadata=names, engine=engine).detach() as sock:
        assert switched_on(sock) == {*names, "destination"}


@asked
def test_a_prepared_socket_gets_what_metadata_names_and_nothing_else(
    loopback: Link, family: Family, engine: str, names: tuple[str, ...]
) -> None:
    sock = plain_socket(family.number, port=PORT)
    with Receiver.from_socket(sock, metadata=names, engine=engine).detach():
        assert switched_on(sock) == set(names)


def test_without_metadata_the_kernel_adds_nothing_to_a_datagram(loopback: Link, family: Family, engine: str) -> None:
    receiver = Receiver(at(family.group, loopback), engine=engine)
    with receiver.detach() as sock, sources(loopback) as (source,):
        source.send(family.group, b"payload")
        payload, added, flags, _ = sock.recvmsg(100, 1000)
        assert (payload, added, flags) == (b"payload", [], 0)


@pytest.mark.parametrize("asked_for", [False, True, None])
def test_loopback_is_set_as_asked_and_none_leaves_it_to_the_system(
    loopback: Link, family: Family, asked_for: bool | None
) -> None:
    with plain_socket(family.number) as untouched:
        default = get_option(untouched, options.LOOPBACK)
    with Receiver(at(family.group, loopback), loopback=asked_for).detach() as sock:
        assert get_option(sock, options.LOOPBACK) is (default if asked_for is None else asked_for)


def test_without_loopback_a_receiver_hears_this_host_all_the_same(loopback: Link, family: Family, engine: str) -> None:
    """On Linux the option acts on the sender."""
    with (
        Receiver(at(family.group, loopback), loopback=False, engine=engine) as receiver,
        sources(loopback) as (source,),
    ):
        source.send(family.group, b"payload")
        assert receiver.recv_batch(0).payloads() == [b"payload"]
        assert is_empty(receiver)


def test_a_receive_buffer_that_is_granted_is_what_was_asked_for(loopback: Link, family: Family) -> None:
    with Receiver(at(family.group, loopback), receive_buffer=65536).detach() as sock:
        assert get_option(sock, options.RECEIVE_BUFFER) == 2 * 65536


def test_without_receive_buffer_the_systems_default_stays(loopback: Link, family: Family) -> None:
    with plain_socket(family.number) as untouched, Receiver(at(family.group, loopback)).detach() as sock:
        assert get_option(sock, options.RECEIVE_BUFFER) == get_option(untouched, options.RECEIVE_BUFFER)


def test_a_clamped_receive_buffer_warns_where_the_receiver_is_opened(
    loopback: Link, family: Family, engine: str
) -> None:
    with pytest.warns(BufferClampedWarning) as caught:
        receiver = Receiver(at(family.group, loopback), receive_buffer=HUGE, engine=engine)
    (warning,) = caught
    with receiver.detach() as sock:
        granted = get_option(sock, options.RECEIVE_BUFFER) // 2
    assert f"receive buffer: asked for {HUGE} octets, the system grants {granted}: " in str(warning.message)
    assert "net.core.rmem_max" in str(warning.message)
    assert warning.filename == __file__


def test_a_warning_that_is_an_error_opens_no_receiver(loopback: Link, family: Family) -> None:
    with pytest.raises(BufferClampedWarning, match="receive buffer: asked for"):
        Receiver(at(family.group, loopback), receive_buffer=HUGE)
    Receiver(at(family.group, loopback), reuse=False).close()  # nobody holds the port
