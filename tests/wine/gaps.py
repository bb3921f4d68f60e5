"""What Wine 8 lacks of Windows, and the tests that must fail for it.

Each gap is Wine's, tried there, and shown by one failure: another one is a failure of the run. Whoever finds one of
these tests passing has a Wine that has caught up, and takes it out. Tests are named as "file::test" with the wildcards
of fnmatch.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, NamedTuple

from mcastfast.options import set_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcastfast.options import SocketLike


ENOPROTOOPT, EAFNOSUPPORT = 10042, 10047
"""Of Winsock."""


class Gap(NamedTuple):
    """What is not there or misleads, the tests that show it, and the only failure that does: an OSError of this code,
    or an AssertionError in whose text the words are found.
    """

    text: str
    tests: tuple[str, ...]
    code: int = ENOPROTOOPT
    words: str = ""

    @property
    def raises(self) -> type[Exception]:
        """The class of the failure."""
        return AssertionError if self.words else OSError

    def is_shown_by(self, error: BaseException) -> bool:
        """Whether this is the failure."""
        if self.words:
            return isinstance(error, AssertionError) and bool(re.search(self.words, str(error)))
        return isinstance(error, OSError) and error.errno == self.code


_INDEPENDENT = "there are no requests about sources of IPv6"
_PATH_MTU = "there is no such option"

GAPS = {
    "MCAST_*": Gap(
        _INDEPENDENT,
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
    "IP_MTU_DISCOVER": Gap(
        _PATH_MTU,
        (
            "test_sender_errors.py::test_a_lone_payload_over_the_mtu_*",
            "test_sender_errors.py::test_a_payload_over_the_mtu_*",
            "test_sender_options.py::test_fragment_sets_path_mtu_*",
            "test_contract.py::test_a_keyword_of_a_sender*fragment=False*",
        ),
    ),
    "IP_MTU_DISCOVER of the command line": Gap(
        _PATH_MTU, ("test_cli_relay.py::test_datagrams_over_the_mtu_*",), words="error: set IP_MTU_DISCOVER to do"
    ),
    "IP_MTU": Gap(_PATH_MTU, ("test_options_errors.py::test_reading_the_path_mtu_*",), words="10042 == 10057"),
    "struct ip_mreq_source": Gap(
        "it is handed on as it is, and Linux has the last two members swapped; a program that tests start cannot swap",
        ("test_cli_recv.py::test_only_the_source_*", "test_cli_relay.py::test_a_relay_that_takes_another_source_*"),
        words="error: join 23[29].*: Invalid argument",
    ),
    "isolation": Gap(
        "a socket on the wildcard address is readable for groups that other sockets joined, as on Linux",
        ("test_receiver_readiness.py::test_selectors_tell_*",),
        words=r"(?s)assert \{<Receiver .*Extra items in the left set:.*<Receiver",
    ),
    "a route to an IPv6 group": Gap(
        "GetBestInterfaceEx answers ERROR_NOT_SUPPORTED",
        ("test_interface_resolve.py::test_the_route_may_lead_to_loopback*group1*",),
        code=EAFNOSUPPORT,
    ),
    "the order of addresses": Gap(
        "GetAdaptersAddresses lists those of IPv6 first",
        ("test_interface_enumerate.py::test_addresses_carry_their_prefix_*",),
        words=r"assert IPv6Interface\(.* == IPv4Interface\(",
    ),
    "a closed socket": Gap(
        "WSAPoll waits for it, where Windows says POLLNVAL",
        ("test_receiver_from_socket.py::test_a_socket_that_somebody_closed_*[[]socket]",),
        words="(?s)Expected regex: .*it is closed.*Actual message: .*timed out",
    ),
    "late errors": Gap(
        "they come with the next send, as on Linux, and not with a receive alone",
        ("test_contract.py::test_a_counter_of_a_sender_counts*late_errors*",),
        words=r"assert '[1-9]\d*' == '0'",
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
