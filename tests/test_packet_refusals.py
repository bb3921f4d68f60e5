"""What cannot be had with engine="packet" is refused at once, with the reason and the remedy."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from packetlab import mappings, needs_packet, packet_receiver
from receivelab import TIMEOUT, V4, at, is_joined, plain_socket, script

from mcastfast import ENGINES, Receiver, Ring, Sender, UnsupportedError

if TYPE_CHECKING:
    from netlab import Link

pytestmark = needs_packet

WITHOUT_THE_RIGHT = """
import ctypes, os, sys
import mcastfast.receiver
CAP_NET_RAW, PR_CAPBSET_DROP = 13, 24
if os.geteuid() == 0:
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_RAW, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
TRY = """
import mcastfast
try:
    mcastfast.Receiver("239.1.2.3:5000", interface="lo", engine="packet")
except PermissionError as error:
    print(error, *error.__notes__, sep="\\n")
try:
    mcastfast.Receiver("239.1.2.3:5000", interface="lo", engine="ring")
except ValueError as error:
    print(error)
with mcastfast.Receiver("239.1.2.3:5000", interface="lo") as receiver:
    print(receiver)
"""


def test_without_the_right_it_says_which_capability_and_how_to_grant_it(loopback: Link) -> None:
    with script(WITHOUT_THE_RIGHT, TRY, namespace=loopback.namespace) as process:
        out, err = process.communicate(timeout=TIMEOUT)
    assert err == ""
    refusal, remedy, listed, plain = out.splitlines()
    assert refusal == (
        "[Errno 1] open packet ring of 16777216 bytes on lo: it needs CAP_NET_RAW, which this process lacks"
    )
    assert "setcap cap_net_raw+ep" in remedy
    assert 'engine="socket" needs no right' in remedy
    assert listed == (
        "engine='ring' is not known; this system has 'auto', 'socket', 'portable', but not packet: needs CAP_NET_RAW, "
        "but not iocp: for Windows, but not apple: for macOS"
    )
    assert plain == "239.1.2.3%lo port 5000"


def test_names_that_do_not_exist_are_answered_with_those_that_do(loopback: Link) -> None:
    listed = (
        "this system has 'auto', 'socket', 'portable', 'packet' (only to receive), "
        "but not iocp: for Windows, but not apple: for macOS"
    )
    with pytest.raises(ValueError, match=re.escape(f"engine='ring' is not known; {listed}")):
        Receiver(at(V4.group, loopback), engine="ring")
    for name, system in (("iocp", "Windows"), ("apple", "macOS")):
        for call in (Receiver, Sender):
            with pytest.raises(UnsupportedError, match=re.escape(f"engine={name!r} is for {system}; {listed}")):
                call(at(V4.group, loopback), engine=name)


def test_auto_never_picks_it(loopback: Link) -> None:
    assert "packet" not in ENGINES
    with Receiver(at(V4.group, loopback), engine="auto") as receiver:
        assert not mappings()
        assert receiver.stats.kernel_drops_exact


@pytest.mark.parametrize(
    ("ring", "error", "text"),
    [
        ("large", ValueError, "ring='large' is not a size"),
        ("16 MiB/s", ValueError, "is not a size"),
        (0, ValueError, "ring=0 is not above 0 bytes"),
        (-1, ValueError, "ring=-1 is not above 0 bytes"),
        (2**60, ValueError, "is more than this machine's memory"),
        (1.5e6, TypeError, "ring=1500000.0 is not a size"),
        (True, TypeError, "ring=True is not a size"),
        (b"16 MiB", TypeError, "is not a size"),
        (Ring(0), ValueError, "ring=0 is not above 0 bytes"),
        (Ring(delay=0), ValueError, r"ring: delay=0 is not in 0\.001 to 10\.0 seconds"),
        (Ring(delay=11), ValueError, "ring: delay=11 is not in"),
        (Ring(delay=float("nan")), ValueError, "ring: delay=nan is not in"),
        (Ring(delay="1 ms"), TypeError, "ring: delay='1 ms' is not a number of seconds"),  # type: ignore[arg-type]
        (Ring(delay=True), TypeError, "ring: delay=True is not a number of seconds"),
    ],
)
def test_rings_that_cannot_be(loopback: Link, ring: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        packet_receiver(V4.group, loopback, ring=ring)
    assert not is_joined(loopback, V4.group)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"background": "1 MiB"},
            "background='1 MiB' does not go with engine='packet': the kernel ",
        ),
        (
            {"coalesce": True},
            "coalesce=True does not go with engine='packet': trains come ",
        ),
        ({"busy_poll": 5e-5}, "busy_poll=5e-05 does not go with engine='packet': "),
        ({"metadata": ["colour"]}, "metadata 'colour' is not known"),
        ({"batch_size": 0}, "batch_size=0 is not in 1"),
        ({"max_datagram": 65536}, "max_datagram=65536 is not in 1"),
        ({"bind": "none"}, "bind='none' is not known"),
    ],
)
def test_options_that_do_not_go_with_it(loopback: Link, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        packet_receiver(V4.group, loopback, **options)


def test_a_ring_for_an_engine_that_has_none(loopback: Link) -> None:
    with pytest.raises(ValueError, match=r"^ring='1 MiB' is for engine=\"packet\", not 'auto'$"):
        Receiver(at(V4.group, loopback), ring="1 MiB")


def test_a_prepared_socket(loopback: Link) -> None:
    with plain_socket(socket.AF_INET, port=5000) as sock:
        with pytest.raises(ValueError, match=r"engine='packet' follows the memberships, and those .* are not known"):
            Receiver.from_socket(sock, engine="packet")
        assert sock.fileno() >= 0


def test_a_sender(loopback: Link) -> None:
    with pytest.raises(ValueError, match=r"^engine='packet' only receives; to send this system has 'auto'"):
        Sender(at(V4.group, loopback), engine="packet")


def test_a_port_that_others_do_not_share_leaves_no_ring(loopback: Link) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 5000))
        with pytest.raises(OSError, match=r"bind 0\.0\.0\.0 port 5000"):
            packet_receiver(V4.group, loopback, bind="any")
