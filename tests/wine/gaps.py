"""What Wine 8 lacks of Windows, and the tests that must fail for it.

Each gap is Wine's, tried there; whoever finds one of these tests passing has a Wine that has caught up, and takes it
out. Tests are named as "file::test" with the wildcards of fnmatch.
"""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, NamedTuple

from mcastfast.options import set_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcastfast.options import SocketLike


class Gap(NamedTuple):
    """What is not there or misleads, and the tests that show it."""

    text: str
    tests: tuple[str, ...]


GAPS = {
    "MCAST_*": Gap(
        "WSAENOPROTOOPT (10042) for the requests about sources of IPv6",
        (
            "test_membership_ipv6.py::test_a_block_is_for_all_*",
            "test_membership_ipv6.py::test_other_sources_on_another_*",
            "test_membership_ipv6.py::test_the_same_sources_on_another_*",
            "test_receiver_refusals.py::test_an_any_source_join_in_the_source_specific_*v6*",
            "test_receiver_refusals.py::test_steps_that_rfc_3678_forbids_*v6*",
            "test_receiver_sources.py::test_a_block_holds_*v6*",
            "test_receiver_sources.py::test_a_source_that_sends_*v6*",
            "test_receiver_sources.py::test_an_ssm_receiver_gets_*v6*",
            "test_receiver_sources.py::test_block_stops_*v6*",
            "test_receiver_sources.py::test_several_groups_*v6*",
            "test_receiver_sources.py::test_sources_are_joined_*v6*",
            "test_contract.py::test_a_membership_opens_*block(*ff15*",
            "test_contract.py::test_a_membership_opens_*join(*ff35*",
        ),
    ),
    "IPV6_TCLASS": Gap(
        "WSAENOPROTOOPT (10042)",
        (
            "test_batch_columns.py::test_each_metadata_*ipv6*",
            "test_sender_options.py::test_the_traffic_class_*v6-*-[!N]*",
        ),
    ),
    "IP_MTU_DISCOVER and IP_MTU": Gap(
        "WSAENOPROTOOPT (10042)",
        (
            "test_cli_relay.py::test_datagrams_over_the_mtu_*",
            "test_options_errors.py::test_reading_the_path_mtu_*",
            "test_sender_errors.py::test_a_lone_payload_over_the_mtu_*",
            "test_sender_errors.py::test_a_payload_over_the_mtu_*",
            "test_sender_options.py::test_fragment_sets_path_mtu_*",
            "test_contract.py::test_a_keyword_of_a_sender*fragment=False*",
        ),
    ),
    "struct ip_mreq_source": Gap(
        "it is handed on as it is, and Linux has the last two members swapped; a program that tests start cannot swap",
        ("test_cli_recv.py::test_only_the_source_*",),
    ),
    "isolation": Gap(
        "a socket on the wildcard address is readable for groups that other sockets joined, as on Linux",
        ("test_receiver_readiness.py::test_selectors_tell_*",),
    ),
    "a route to an IPv6 group": Gap(
        "GetBestInterfaceEx answers ERROR_NOT_SUPPORTED",
        ("test_interface_resolve.py::test_the_route_may_lead_to_loopback*group1*",),
    ),
    "the order of addresses": Gap(
        "GetAdaptersAddresses lists those of IPv6 first",
        ("test_interface_enumerate.py::test_addresses_carry_their_prefix_*",),
    ),
    "a closed socket": Gap(
        "WSAPoll waits for it, where Windows says POLLNVAL",
        ("test_receiver_from_socket.py::test_a_socket_that_somebody_closed_*[[]socket]",),
    ),
}


def of(test: str) -> Iterator[str]:
    """The names of the gaps for which this test must fail."""
    for name, gap in GAPS.items():
        if any(fnmatch(test, pattern) for pattern in gap.tests):
            yield name


class _Swapping:
    """A socket whose requests about sources have the last two members of struct ip_mreq_source swapped."""

    def __init__(self, sock: SocketLike) -> None:
        self._sock = sock
        self.family = sock.family

    def setsockopt(self, level: int, number: int, value: bytes, /) -> None:
        self._sock.setsockopt(level, number, value[:4] + value[8:] + value[4:8] if len(value) == 12 else value)

    def getsockopt(self, level: int, number: int, size: int, /) -> bytes:
        return self._sock.getsockopt(level, number, size)


def set_swapped(sock: SocketLike, *arguments: Any, **options: Any) -> None:
    """As options.set_option(), for Wine."""
    set_option(_Swapping(sock), *arguments, **options)
