"""The octets of option values and membership requests for Linux, Windows and macOS, made and checked on any system."""

from __future__ import annotations

import errno
import socket
import struct
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Any

import pytest

from mcastfast import options, requests, sender
from mcastfast.errors import Platform, UnsupportedError
from mcastfast.interface import Interface
from mcastfast.options import Option
from mcastfast.packing import Egress, MembershipRequest, PathMtu, SocketMemory
from mcastfast.requests import INDEPENDENT_REQUESTS, SPECIFIC_REQUESTS, Action, request_option

if TYPE_CHECKING:
    from types import ModuleType

LINUX, WINDOWS, MACOS = Platform.LINUX, Platform.WINDOWS, Platform.MACOS
POINTER = struct.calcsize("P")  # 8 but on 32-bit systems
IPV4, IPV6 = socket.AF_INET, socket.AF_INET6

ETH7 = Interface("eth7", 0x0102, (IPv4Interface("10.0.0.1/24"), IPv6Interface("fd00::1/64")))
BARE = Interface("bare", 0x0102)
G4, S4 = IPv4Address("232.1.2.3"), IPv4Address("10.0.0.7")
G6, S6 = IPv6Address("ff3e::8000:1"), IPv6Address("fd00::7")
G4_BYTES, S4_BYTES, ETH7_BYTES = bytes([232, 1, 2, 3]), bytes([10, 0, 0, 7]), bytes([10, 0, 0, 1])
ETH7_ADDRESS, INDEX_BYTES = IPv4Address("10.0.0.1"), struct.pack("=I", 0x0102)

ALL_OPTIONS: dict[str, Option[Any]] = {
    name: value for name, value in vars(options).items() if isinstance(value, Option)
}


def request(
    action: Action, platform: Platform, *, source: bool, version: int = 4, interface: Interface = ETH7, specific: bool
) -> tuple[str, int, int, bytes]:
    """Name, level, number and octets."""
    option = (SPECIFIC_REQUESTS if specific else INDEPENDENT_REQUESTS)[action, source]
    family = IPV4 if version == 4 else IPV6
    value = MembershipRequest(G4 if version == 4 else G6, (S4 if version == 4 else S6) if source else None, interface)
    place = option.place(family, platform)
    return place.name, place.level, place.number, option.pack(value, family, platform)


ON_EVERY_SYSTEM = [
    # role, value, family, (level, number, octets) on Linux, Windows, macOS
    (options.MULTICAST_HOPS, 3, IPV4, (0, 33, 3), (0, 10, 3), (0, 10, 3)),
    (options.MULTICAST_HOPS, 3, IPV6, (41, 18, 3), (41, 10, 3), (41, 10, 3)),
    (options.UNICAST_HOPS, 64, IPV4, (0, 2, 64), (0, 4, 64), (0, 4, 64)),
    (options.UNICAST_HOPS, 64, IPV6, (41, 16, 64), (41, 4, 64), (41, 4, 64)),
    (options.LOOPBACK, False, IPV4, (0, 34, 0), (0, 11, 0), (0, 11, 0)),
    (options.LOOPBACK, True, IPV6, (41, 19, 1), (41, 11, 1), (41, 11, 1)),
    (options.TOS, 0xB8, IPV4, (0, 1, 0xB8), (0, 3, 0xB8), (0, 3, 0xB8)),
    (options.TOS, 0xB8, IPV6, (41, 67, 0xB8), None, (41, 36, 0xB8)),
    (options.PATH_MTU_DISCOVERY, PathMtu.DO, IPV4, (0, 10, 2), (0, 71, 1), (0, 28, 1)),
    (options.PATH_MTU_DISCOVERY, PathMtu.DONT, IPV4, (0, 10, 0), (0, 71, 2), (0, 28, 0)),
    (options.PATH_MTU_DISCOVERY, PathMtu.DO, IPV6, (41, 23, 2), (41, 71, 1), (41, 62, 1)),
    (options.PATH_MTU_DISCOVERY, PathMtu.DONT, IPV6, (41, 23, 0), (41, 71, 2), (41, 62, 0)),
    (options.BROADCAST, True, IPV4, (1, 6, 1), (0xFFFF, 0x20, 1), (0xFFFF, 0x20, 1)),
    (options.REUSE_ADDRESS, True, IPV4, (1, 2, 1), (0xFFFF, 4, 1), (0xFFFF, 4, 1)),
    (options.EXCLUSIVE_ADDRESS, True, IPV4, None, (0xFFFF, -5, 1), None),
    (options.V6ONLY, True, IPV6, (41, 26, 1), (41, 27, 1), (41, 27, 1)),
    (options.PACKET_INFO, True, IPV4, (0, 8, 1), (0, 19, 1), (0, 26, 1)),
    (options.PACKET_INFO, True, IPV6, (41, 49, 1), (41, 19, 1), (41, 61, 1)),
    (options.RECEIVE_HOPS, True, IPV4, (0, 12, 1), (0, 21, 1), (0, 24, 1)),
    (options.RECEIVE_HOPS, True, IPV6, (41, 51, 1), (41, 21, 1), (41, 37, 1)),
    (options.RECEIVE_TOS, True, IPV4, (0, 13, 1), (0, 40, 1), (0, 27, 1)),
    (options.RECEIVE_TOS, True, IPV6, (41, 66, 1), (41, 40, 1), (41, 35, 1)),
    (options.RECEIVE_BUFFER, 65536, IPV4, (1, 8, 65536), (0xFFFF, 0x1002, 65536), (0xFFFF, 0x1002, 65536)),
    (options.SEND_BUFFER, 65536, IPV6, (1, 7, 65536), (0xFFFF, 0x1001, 65536), (0xFFFF, 0x1001, 65536)),
    (options.REUSE_PORT, True, IPV4, (1, 15, 1), None, (0xFFFF, 0x200, 1)),
    (options.BOUND_INTERFACE, 5, IPV4, (1, 62, 5), None, (0, 25, 5)),
    (options.BOUND_INTERFACE, 5, IPV6, (1, 62, 5), None, (41, 125, 5)),
    (options.TIMESTAMPS, True, IPV4, (1, 35, 1), None, (0xFFFF, 0x400, 1)),
    (options.MULTICAST_ALL, False, IPV4, (0, 49, 0), None, None),
    (options.MULTICAST_ALL, False, IPV6, (41, 29, 0), None, None),
    (options.RECEIVE_ERRORS, True, IPV4, (0, 11, 1), None, None),
    (options.RECEIVE_ERRORS, True, IPV6, (41, 25, 1), None, None),
    (options.DROP_COUNTER, True, IPV6, (1, 40, 1), None, None),
    (options.FORCED_RECEIVE_BUFFER, 4096, IPV4, (1, 33, 4096), None, None),
    (options.FORCED_SEND_BUFFER, 4096, IPV4, (1, 32, 4096), None, None),
    (options.HARDWARE_TIMESTAMPS, True, IPV4, (1, 37, 92), None, None),
    (options.SEGMENT, 1400, IPV6, (17, 103, 1400), None, None),
    (options.COALESCE, True, IPV4, (17, 104, 1), None, None),
    (options.BUSY_POLL, 50, IPV4, (1, 46, 50), None, None),
    (options.PREFER_BUSY_POLL, True, IPV6, (1, 69, 1), None, None),
]

# The same with all octets, for values that are no integers and options that are only read.
MREQN, ANY_MREQN = bytes(4) + ETH7_BYTES + INDEX_BYTES, bytes(8) + INDEX_BYTES
BY_ADDRESS, BY_INDEX = bytes(4) + ETH7_BYTES + bytes(4), bytes([0, 0, 1, 2])
WRITTEN = [
    (options.EGRESS, Egress(0x0102, ETH7_ADDRESS), IPV4, (0, 32, MREQN), (0, 9, BY_INDEX), (0, 9, MREQN)),
    (options.EGRESS, Egress(0x0102), IPV4, (0, 32, ANY_MREQN), (0, 9, BY_INDEX), (0, 9, ANY_MREQN)),
    (options.EGRESS, Egress(0, ETH7_ADDRESS), IPV4, (0, 32, BY_ADDRESS), (0, 9, ETH7_BYTES), (0, 9, BY_ADDRESS)),
    (options.EGRESS, Egress(0x0102, S6), IPV6, (41, 17, INDEX_BYTES), (41, 9, INDEX_BYTES), (41, 9, INDEX_BYTES)),
    (options.BOUND_DEVICE, "eth7", IPV4, (1, 25, b"eth7\0"), None, None),
    (options.BOUND_DEVICE, "eth7", IPV6, (1, 25, b"eth7\0"), None, None),
]
MTU_BYTES, MEMORY_BYTES = struct.pack("=i", 9000), struct.pack("=9I", *range(1, 10))
READ = [
    (options.PATH_MTU, 9000, IPV4, (0, 14, MTU_BYTES), (0, 73, MTU_BYTES), None),
    (options.PATH_MTU, 9000, IPV6, (41, 24, MTU_BYTES), (41, 72, MTU_BYTES), None),
    (options.MEMORY, SocketMemory(*range(1, 10)), IPV4, (1, 55, MEMORY_BYTES), None, None),
    (options.MEMORY, SocketMemory(*range(1, 10)), IPV6, (1, 55, MEMORY_BYTES), None, None),
]


@pytest.mark.parametrize(("option", "value", "family", "linux", "windows", "macos"), ON_EVERY_SYSTEM)
def test_option_has_the_number_and_octets_of_each_system(
    option: Option[object],
    value: object,
    family: int,
    linux: tuple[int, int, int],
    windows: tuple[int, int, int] | None,
    macos: tuple[int, int, int] | None,
) -> None:
    for platform, expected in ((LINUX, linux), (WINDOWS, windows), (MACOS, macos)):
        assert option.supported(family, platform) == (expected is not None)
        if expected is None:
            with pytest.raises(UnsupportedError, match=f"not available for IPv[46] on {platform}"):
                option.place(family, platform)
        else:
            level, number, integer = expected
            place = option.place(family, platform)
            data = option.pack(value, family, platform)
            assert (place.level, place.number, data) == (level, number, struct.pack("=i", integer))
            assert option.unpack(data, family, platform) == value


@pytest.mark.parametrize(("option", "value", "family", "linux", "windows", "macos"), [*WRITTEN, *READ])
def test_option_of_other_values_has_the_number_and_octets_of_each_system(
    option: Option[Any],
    value: object,
    family: int,
    linux: tuple[int, int, bytes],
    windows: tuple[int, int, bytes] | None,
    macos: tuple[int, int, bytes] | None,
) -> None:
    is_read_only = option in {read[0] for read in READ}
    for platform, expected in ((LINUX, linux), (WINDOWS, windows), (MACOS, macos)):
        assert option.supported(family, platform) == (expected is not None)
        if expected is None:
            continue
        place = option.place(family, platform)
        assert (place.level, place.number) == expected[:2]
        if is_read_only:
            assert place.codec.size >= len(expected[2])
            assert option.unpack(expected[2], family, platform) == value
            with pytest.raises(ValueError, match=rf"\({place.name}\) can only be read"):
                option.pack(value, family, platform)
        else:
            assert option.pack(value, family, platform) == expected[2]


def test_every_name_of_every_option_is_checked_above_for_each_system_that_has_it() -> None:
    claimed = {
        (row.name, platform)
        for option in ALL_OPTIONS.values()
        for row in option.rows
        for platform in Platform
        if row.number(platform) is not None
    }
    tables: list[tuple[Any, ...]] = [*ON_EVERY_SYSTEM, *WRITTEN, *READ]
    checked = {
        (option.place(family, platform).name, platform)
        for option, _, family, *systems in tables
        for platform, expected in zip((LINUX, WINDOWS, MACOS), systems, strict=True)
        if expected is not None
    }
    assert checked == claimed


def test_a_port_is_shared_or_kept_by_what_each_system_wants() -> None:
    assert options.SHARING == {
        LINUX: (options.REUSE_ADDRESS,),
        WINDOWS: (options.REUSE_ADDRESS,),
        MACOS: (options.REUSE_ADDRESS, options.REUSE_PORT),
    }
    assert options.KEEPING == {LINUX: (), WINDOWS: (options.EXCLUSIVE_ADDRESS,), MACOS: ()}
    every = [
        (option, platform)
        for wanted in (options.SHARING, options.KEEPING)
        for platform in Platform
        for option in wanted[platform]
    ]
    assert all(option.supported(family, platform) for option, platform in every for family in (IPV4, IPV6))


def test_windows_is_said_to_decide_on_the_traffic_class_of_ipv6() -> None:
    with pytest.raises(UnsupportedError, match=r"traffic class is not available for IPv6 on windows: .*policies"):
        options.TOS.place(IPV6, WINDOWS)


@pytest.mark.parametrize("family", [IPV4, IPV6])
@pytest.mark.parametrize(
    ("platform", "numbers"),
    [
        (LINUX, {PathMtu.DONT: 0, PathMtu.WANT: 1, PathMtu.DO: 2, PathMtu.PROBE: 3}),
        (WINDOWS, {PathMtu.WANT: 0, PathMtu.DO: 1, PathMtu.DONT: 2, PathMtu.PROBE: 3}),
        (MACOS, {PathMtu.DONT: 0, PathMtu.DO: 1}),
    ],
)
def test_path_mtu_discovery_has_the_numbers_of_each_system(
    platform: Platform, numbers: dict[PathMtu, int], family: int
) -> None:
    for choice in PathMtu:
        if choice in numbers:
            data = options.PATH_MTU_DISCOVERY.pack(choice, family, platform)
            assert data == struct.pack("=i", numbers[choice])
            assert options.PATH_MTU_DISCOVERY.unpack(data, family, platform) is choice
        else:
            with pytest.raises(ValueError, match=f"must be one of .* on {platform}, not {choice}"):
                options.PATH_MTU_DISCOVERY.pack(choice, family, platform)


@pytest.mark.parametrize("platform", Platform)
@pytest.mark.parametrize("family", [IPV4, IPV6])
def test_no_two_options_share_a_number(platform: Platform, family: int) -> None:
    every = [*ALL_OPTIONS.values(), *INDEPENDENT_REQUESTS.values(), *SPECIFIC_REQUESTS.values()]
    places = [option.place(family, platform) for option in every if option.supported(family, platform)]
    numbers = [(place.level, place.number) for place in places]
    assert len(set(numbers)) == len(numbers)


def test_egress_of_linux_is_told_as_an_address_only() -> None:
    assert options.EGRESS.unpack(ETH7_BYTES, IPV4, LINUX) == Egress(0, ETH7_ADDRESS)


def test_egress_of_macos_reads_back_whole() -> None:
    assert options.EGRESS.unpack(MREQN, IPV4, MACOS) == Egress(0x0102, ETH7_ADDRESS)


def test_egress_of_windows_is_told_as_an_index_in_the_order_of_the_machine() -> None:
    assert options.EGRESS.unpack(INDEX_BYTES, IPV4, WINDOWS) == Egress(0x0102)


@pytest.mark.parametrize("platform", Platform)
def test_egress_of_ipv6_is_told_as_an_index(platform: Platform) -> None:
    assert options.EGRESS.unpack(INDEX_BYTES, IPV6, platform) == Egress(0x0102)


def test_device_name_is_told_with_zeros_at_its_end() -> None:
    assert options.BOUND_DEVICE.unpack(b"eth7\0\0", IPV4, LINUX) == "eth7"


def test_drops_are_the_ninth_number_of_meminfo() -> None:
    memory = options.MEMORY.unpack(struct.pack("=9I", *range(1, 10)), IPV4, LINUX)
    assert (memory.receive_buffer, memory.drops) == (2, 9)


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize(
    ("action", "source", "independent_numbers", "specific_numbers"),
    [
        (Action.JOIN, False, (42, 41, 80), (35, 12, 12)),
        (Action.LEAVE, False, (45, 42, 81), (36, 13, 13)),
        (Action.JOIN, True, (46, 45, 82), (39, 15, 70)),
        (Action.LEAVE, True, (47, 46, 83), (40, 16, 71)),
        (Action.BLOCK, True, (43, 43, 84), (38, 17, 72)),
        (Action.UNBLOCK, True, (44, 44, 85), (37, 18, 73)),
    ],
)
def test_request_numbers_are_those_of_the_headers(
    action: Action,
    source: bool,
    independent_numbers: tuple[int, int, int],
    specific_numbers: tuple[int, int, int],
    specific: bool,
) -> None:
    expected = specific_numbers if specific else independent_numbers
    found = tuple(request(action, platform, source=source, specific=specific)[2] for platform in Platform)
    assert found == expected


@pytest.mark.parametrize(("platform", "number"), [(LINUX, (20, 21)), (WINDOWS, (12, 13)), (MACOS, (12, 13))])
def test_ipv6_mreq_is_group_and_index(platform: Platform, number: tuple[int, int]) -> None:
    for action, expected in zip((Action.JOIN, Action.LEAVE), number, strict=True):
        _, level, found, data = request(action, platform, source=False, version=6, specific=True)
        assert (level, found) == (41, expected)
        assert data == G6.packed + struct.pack("=I", 0x0102)


def test_ip_mreq_is_group_and_address_but_on_linux_an_mreqn() -> None:
    join = Action.JOIN
    assert request(join, WINDOWS, source=False, specific=True)[3] == G4_BYTES + ETH7_BYTES
    assert request(join, MACOS, source=False, specific=True)[3] == G4_BYTES + ETH7_BYTES
    assert request(join, LINUX, source=False, specific=True)[3] == G4_BYTES + ETH7_BYTES + struct.pack("=i", 0x0102)


def test_ip_mreq_source_has_the_interface_before_the_source_on_linux_only() -> None:
    join = Action.JOIN
    assert request(join, LINUX, source=True, specific=True)[3] == G4_BYTES + ETH7_BYTES + S4_BYTES
    assert request(join, WINDOWS, source=True, specific=True)[3] == G4_BYTES + S4_BYTES + ETH7_BYTES
    assert request(join, MACOS, source=True, specific=True)[3] == G4_BYTES + S4_BYTES + ETH7_BYTES


def test_interface_without_ipv4_address_is_named_by_index_where_windows_allows_it() -> None:
    data = request(Action.JOIN, WINDOWS, source=False, interface=BARE, specific=True)[3]
    assert data == G4_BYTES + bytes([0, 0, 1, 2])
    with pytest.raises(ValueError, match="interface bare has no IPv4 address"):
        request(Action.JOIN, MACOS, source=False, interface=BARE, specific=True)


@pytest.mark.parametrize(
    ("platform", "first", "second", "total"),
    [(LINUX, POINTER, POINTER + 128, POINTER + 256), (WINDOWS, 8, 136, 264), (MACOS, 4, 132, 260)],
)
def test_group_requests_have_the_size_and_offsets_of_each_system(
    platform: Platform, first: int, second: int, total: int
) -> None:
    data = request(Action.JOIN, platform, source=True, specific=False)[3]
    assert len(data) == total
    assert len(request(Action.JOIN, platform, source=False, specific=False)[3]) == second
    assert data[:4] == struct.pack("=I", 0x0102)
    assert data[4:first] == bytes(first - 4)
    assert data[first + 4 : first + 8] == G4_BYTES
    assert data[second + 4 : second + 8] == S4_BYTES


@pytest.mark.parametrize(
    ("platform", "ipv4_start", "ipv6_start"),
    [
        (LINUX, struct.pack("=H", 2), struct.pack("=H", 10)),
        (WINDOWS, struct.pack("=H", 2), struct.pack("=H", 23)),
        (MACOS, bytes([16, 2]), bytes([28, 30])),  # sin_len, sin_family
    ],
)
def test_sockaddr_begins_with_the_family_and_on_macos_its_length(
    platform: Platform, ipv4_start: bytes, ipv6_start: bytes
) -> None:
    offset = len(request(Action.JOIN, platform, source=False, specific=False)[3]) - 128
    ipv4 = request(Action.JOIN, platform, source=False, specific=False)[3][offset:]
    ipv6 = request(Action.JOIN, platform, source=False, version=6, specific=False)[3][offset:]
    assert ipv4 == (ipv4_start + bytes(2) + G4_BYTES).ljust(128, b"\0")
    assert ipv6 == (ipv6_start + bytes(6) + G6.packed).ljust(128, b"\0")


@pytest.mark.parametrize(
    ("platform", "version", "source", "name"),
    [
        (LINUX, 4, False, "MCAST_JOIN_GROUP"),
        (LINUX, 6, True, "MCAST_JOIN_SOURCE_GROUP"),
        (MACOS, 4, True, "MCAST_JOIN_SOURCE_GROUP"),
        (WINDOWS, 4, False, "IP_ADD_MEMBERSHIP"),
        (WINDOWS, 4, True, "IP_ADD_SOURCE_MEMBERSHIP"),
        (WINDOWS, 6, False, "IPV6_JOIN_GROUP"),
        (WINDOWS, 6, True, "MCAST_JOIN_SOURCE_GROUP"),
    ],
)
def test_each_system_gets_the_form_of_request_that_it_knows_best(
    platform: Platform, version: int, source: bool, name: str
) -> None:
    group, sender = (G4, S4) if version == 4 else (G6, S6)
    option = request_option(Action.JOIN, group, sender if source else None, platform=platform)
    place = option.place(IPV4 if version == 4 else IPV6, platform)
    assert place.name == name
    assert place.level == (0 if version == 4 else 41)


def stand_in_for_set_option(
    monkeypatch: pytest.MonkeyPatch, caller: ModuleType, holder: ModuleType, platform: Platform, refusals: list[int]
) -> list[bytes]:
    """Answer what `caller` asks of sockets as on a platform: the first times with these errors; what it asked."""
    asked: list[bytes] = []

    def answer(_: object, option: Option[Any], value: object, **__: object) -> None:
        asked.append(option.pack(value, IPV4, platform))
        if len(asked) <= len(refusals):
            raise OSError(refusals[len(asked) - 1], "refused")

    monkeypatch.setattr(caller, "CURRENT", platform)
    monkeypatch.setattr(holder, "set_option", answer)
    return asked


@pytest.mark.parametrize("refusals", [[], [errno.EADDRNOTAVAIL], [errno.EADDRNOTAVAIL, errno.EINVAL], [errno.EINVAL]])
@pytest.mark.parametrize("platform", Platform)
def test_windows_names_an_interface_by_its_index_where_it_does_not_take_the_address(
    monkeypatch: pytest.MonkeyPatch, platform: Platform, refusals: list[int]
) -> None:
    """Where the index is not taken either, the error is that of the address."""
    asked = stand_in_for_set_option(monkeypatch, requests, requests, platform, refusals)
    error = None
    with socket.socket() as sock:
        try:
            requests.request_membership(sock, Action.JOIN, G4, S4, ETH7)
        except OSError as raised:
            error = raised.errno
    is_retried = platform is WINDOWS and refusals[:1] == [errno.EADDRNOTAVAIL]
    assert len(asked) == 1 + is_retried
    assert error == (refusals[0] if len(refusals) > is_retried else None)
    if platform is WINDOWS:
        by_address, by_index = (G4_BYTES + S4_BYTES + named for named in (ETH7_BYTES, bytes([0, 0, 1, 2])))
        assert asked == [by_address, by_index][: len(asked)]


@pytest.mark.parametrize("refusals", [[], [errno.EINVAL], [errno.EINVAL, errno.EADDRNOTAVAIL]])
@pytest.mark.parametrize("interface", [ETH7, BARE])
@pytest.mark.parametrize("platform", Platform)
def test_an_address_to_send_from_never_chooses_the_interface(
    monkeypatch: pytest.MonkeyPatch, platform: Platform, interface: Interface, refusals: list[int]
) -> None:
    """Windows has the index, or where it does not take that the interface's own address."""
    asked = stand_in_for_set_option(monkeypatch, sender, options, platform, refusals)
    error = None
    with socket.socket(IPV4, socket.SOCK_DGRAM) as sock:
        try:
            sender._leave_by(sock, interface, S4)
        except OSError as raised:
            error = raised.errno
    is_retried = platform is WINDOWS and interface is ETH7 and bool(refusals)
    assert error == (refusals[0] if len(refusals) > is_retried else None)
    if platform is WINDOWS:
        assert asked == [BY_INDEX, ETH7_BYTES][: 1 + is_retried]
    else:
        assert asked == [bytes(4) + S4_BYTES + INDEX_BYTES]


def test_times_have_the_numbers_of_the_messages_that_the_core_reads() -> None:
    """With 32 bits and a time_t of 64 those are others."""
    program = (
        "from mcastfast import _core\n"
        "_core.SO_TIMESTAMPNS, _core.SO_TIMESTAMPING = 64, 65\n"
        "from mcastfast import options\n"
        "for option in options.TIMESTAMPS, options.HARDWARE_TIMESTAMPS:\n"
        f"    print(option.place({int(IPV4)}, options.Platform.LINUX).number)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split() == ["64", "65"]
