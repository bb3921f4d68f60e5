"""What is refused, and that the error says what is wrong and what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
import pytest

from mcastfast.address import Group, parse_address

MALFORMED = {
    "": "no group address; write it as 239.1.2.3:5000 or [ff15::1%eth0]:5000",
    ":5000": "no group address; write it as 239.1.2.3:5000 or [ff15::1%eth0]:5000",
    "udp://": "no group address; write it as 239.1.2.3:5000 or [ff15::1%eth0]:5000",
    "[]:5000": "no group address; write it as 239.1.2.3:5000 or [ff15::1%eth0]:5000",
    "localhost:5000": "group address 'localhost' is not an IPv4 or IPv6 address; names are not looked up",
    "feed one:5000": "group address 'feed one' is not an IPv4 or IPv6 address; names are not looked up",
    "239.1.2.3 5000": "group address '239.1.2.3 5000' is not an IPv4 or IPv6 address; names are not looked up",
    " 239.1.2.3:5000": "group address ' 239.1.2.3' is not an IPv4 or IPv6 address; names are not looked up",
    "239.1.2:5000": "group address '239.1.2' is not an IPv4 or IPv6 address; names are not looked up",
    "239.1.2.003:5000": "group address '239.1.2.003' is not an IPv4 or IPv6 address; names are not looked up",
    "ff15::1::2": "group address 'ff15::1::2' is not an IPv4 or IPv6 address; names are not looked up",
    "239.1.2.3:": "port '' is not a number in 1 to 65535",
    "239.1.2.3:http": "port 'http' is not a number in 1 to 65535",
    "239.1.2.3:-1": "port '-1' is not a number in 1 to 65535",
    "239.1.2.3:5000 ": "port '5000 ' is not a number in 1 to 65535",
    "[ff15::1]:": "port '' is not a number in 1 to 65535",
    "239.1.2.3:0": "port 0 is not in 1 to 65535",
    "239.1.2.3:65536": "port 65536 is not in 1 to 65535",
    "239.1.2.3:70000": "port 70000 is not in 1 to 65535",
    "[ff15::1%eth0:5000": "the bracket [ is not closed; write it as [ff15::1%eth0]:5000",
    "[ff15::1]%eth0:5000": "'%eth0:5000' after the bracket is not a port; write it as [ff15::1%eth0]:5000",
    "ff15::1%eth0:5000": "more than one ':'; write brackets, as in [ff15::1%eth0]:5000 or [239.1.2.3%fd00::7]:5000",
    "239.1.2.3%fd00::7:5000": (
        "more than one ':'; write brackets, as in [ff15::1%eth0]:5000 or [239.1.2.3%fd00::7]:5000"
    ),
    "239.1.2.3%:5000": "interface is empty; write its name, index or address, or leave it out",
    "239.1.2.3% eth0:5000": "interface ' eth0' has characters that no group text can hold; give its index",
    "239.1.2.3%%eth0:5000": "interface '%eth0' has characters that no group text can hold; give its index",
    "239.1.2.3%et\th0:5000": "interface 'et\\th0' has characters that no group text can hold; give its index",
    "[::ffff:239.1.2.3]:5000": "group address ::ffff:239.1.2.3 is an IPv4-mapped address; write 239.1.2.3",
}

NOT_MULTICAST = {
    f"{text}:5000": (
        f"{text.strip('[]')} is not a multicast address (224.0.0.0/4 or ff00::/8); "
        "for unicast or broadcast use Receiver.from_socket or Sender.from_socket"
    )
    for text in ("10.0.0.1", "0.0.0.0", "255.255.255.255", "[fd00::7]", "[::]")
}

BAD_SOURCES = {
    "@239.1.2.3:5000": "no source stands before @; write source@group, or leave the @ out",
    "feed@232.1.2.3": "source 'feed' is not an IPv4 or IPv6 address; names are not looked up",
    "10.0.0.7@10.0.0.8@232.1.2.3": (
        "source '10.0.0.7@10.0.0.8' is not an IPv4 or IPv6 address; names are not looked up"
    ),
    "10.0.0.7,@232.1.2.3": "source '' is not an IPv4 or IPv6 address; names are not looked up",
    "10.0.0.7%eth0@232.1.2.3": (
        "source '10.0.0.7%eth0' names an interface; only the group does, as in [ff12::1%eth0]:5000"
    ),
    "fe80::1%eth0@[ff32::8000:1%eth0]:5000": (
        "source 'fe80::1%eth0' names an interface; only the group does, as in [ff12::1%eth0]:5000"
    ),
    "::ffff:10.0.0.7@232.1.2.3": "source ::ffff:10.0.0.7 is an IPv4-mapped address; write 10.0.0.7",
    "239.9.9.9@232.1.2.3": (
        "source 239.9.9.9 is a multicast address; a source is the unicast address of a sending host"
    ),
    "0.0.0.0@232.1.2.3": "source 0.0.0.0 is the unspecified address; a source is the unicast address of a sending host",
    "::@ff3e::8000:1": "source :: is the unspecified address; a source is the unicast address of a sending host",
    "255.255.255.255@232.1.2.3": (
        "source 255.255.255.255 is the broadcast address; a source is the unicast address of a sending host"
    ),
    "fd00::7@232.1.2.3:5000": "source fd00::7 is IPv6 but group 232.1.2.3 is IPv4; both must be of one family",
    "10.0.0.7@[ff3e::8000:1]:5000": (
        "source 10.0.0.7 is IPv4 but group ff3e::8000:1 is IPv6; both must be of one family"
    ),
    "10.0.0.7,10.0.0.7@232.1.2.3": "source 10.0.0.7 is given twice; name each source once",
    "239.1.2.3@10.0.0.7:5000": (
        "10.0.0.7 is not a multicast address (224.0.0.0/4 or ff00::/8); "
        "the source comes first, as in 10.0.0.7@239.1.2.3"
    ),
}

URLS = {
    "239.1.2.3:5000?pkt_size=1316": "the query '?pkt_size=1316' in the text is not read; leave it out",
    "udp://239.1.2.3:5000?localaddr=10.0.0.5&fifo_size=7": (
        "the query '?localaddr=10.0.0.5&fifo_size=7' in the text is not read; pass interface=, and leave the rest out"
    ),
    "udp://239.1.2.3:5000/": "the path '/' in the text is not read; leave it out (a group is one address)",
    "239.1.2.0/24": "the path '/24' in the text is not read; leave it out (a group is one address)",
    "udp://239.1.2.3:5000#live": "the fragment '#live' in the text is not read; leave it out",
    "tcp://239.1.2.3:5000": "scheme 'tcp' is not known; write udp:// or rtp://, or leave it out",
    "://239.1.2.3:5000": "scheme '' is not known; write udp:// or rtp://, or leave it out",
}


@pytest.mark.parametrize(("text", "complaint"), (MALFORMED | NOT_MULTICAST | BAD_SOURCES | URLS).items())
def test_a_bad_text_is_a_value_error_that_says_what_to_write(text: str, complaint: str) -> None:
    for parse in (Group.parse, Group.parse_destination):
        with pytest.raises(ValueError, match=f"^{re.escape(f'group {text!r}: {complaint}')}$"):
            parse(text, strict=False)


@pytest.mark.parametrize(
    ("query", "to_receive", "to_send"),
    [
        ("ttl=4", "leave it out", "pass ttl= to Sender"),
        ("sources=10.0.0.7", "pass source=", "leave it out"),
        ("iface=eth0&sources=10.0.0.7", "pass interface= and source=", "pass interface=, and leave the rest out"),
        ("buffer_size=65536", "pass receive_buffer= to Receiver", "pass send_buffer= to Sender"),
        ("reuse=1", "leave it out", "leave it out"),
    ],
)
def test_of_a_query_is_advised_what_the_side_has(query: str, to_receive: str, to_send: str) -> None:
    for parse, remedy in ((Group.parse, to_receive), (Group.parse_destination, to_send)):
        complaint = re.escape(f"the query '?{query}' in the text is not read; {remedy}")
        with pytest.raises(ValueError, match=f"{complaint}$"):
            parse(f"udp://239.1.2.3:5000?{query}")


STRICT = {
    "232.1.2.3:5000": (
        "232.1.2.3 is in the source-specific range (RFC 4607), where routers serve only joins that name a source; "
        "write source@232.1.2.3:5000 or pass source=, or strict=False to join any source all the same"
    ),
    "[ff3e::8000:1%eth0]:5000": (
        "ff3e::8000:1 is in the source-specific range (RFC 4607), where routers serve only joins that name a source; "
        "write source@[ff3e::8000:1%eth0]:5000 or pass source=, or strict=False to join any source all the same"
    ),
    "10.0.0.7@232.0.0.0:5000": (
        "232.0.0.0 is not a usable source-specific group (RFC 4607); choose one in 232.0.1.0 to 232.255.255.255, "
        "or pass strict=False"
    ),
    "fd00::7@[ff3e::1234]:5000": (
        "ff3e::1234 is not a usable source-specific group (RFC 4607); choose one in ff3x::8000:0 to ff3x::ffff:ffff, "
        "or pass strict=False"
    ),
    "[ff10::1]:5000": (
        "ff10::1 has the reserved scope 0, which hosts drop (RFC 4291); "
        "choose ff1x:: with x the scope, such as ff12:: (link) or ff15:: (site), or pass strict=False"
    ),
}


@pytest.mark.parametrize(("text", "complaint"), STRICT.items())
def test_what_the_rfcs_rule_out_is_refused_unless_strict_is_false(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'group {text!r}: {complaint}')}$"):
        Group.parse(text)
    assert str(Group.parse(text, strict=False)) == text


@pytest.mark.parametrize("text", ["10.0.0.7@232.0.0.1:5000", "10.0.0.7@232.1.2.3:5000", "fd00::7@[ff3e::4000:1]:5000"])
def test_a_source_specific_join_to_a_usable_identifier_is_accepted(text: str) -> None:
    assert str(Group.parse(text)) == text


@pytest.mark.parametrize("text", ["232.0.0.0:5000", "[ff3e::1234]:5000", "[ff10::1]:5000"])
def test_a_destination_that_no_sender_may_use_is_refused_unless_strict_is_false(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC .*strict=False"):
        Group.parse_destination(text)
    assert str(Group.parse_destination(text, strict=False)) == text


def test_a_destination_with_a_source_names_local() -> None:
    with pytest.raises(ValueError, match="a destination has no source; write it without source@, and pass local= to"):
        Group.parse_destination("10.0.0.7@232.1.2.3:5000")


def test_a_destination_without_a_port_shows_where_it_goes() -> None:
    with pytest.raises(
        ValueError, match=re.escape("a destination needs a port; write [ff15::1%eth0]:5000 or pass port=")
    ):
        Group.parse_destination("ff15::1%eth0")


@dataclass
class FakeInterface:
    name: str
    index: int


CONFLICTS: list[tuple[str, dict[str, Any], str]] = [
    ("239.1.2.3:5000", {"port": 6000}, "port is 5000 in the group but 6000 in port=; give it once"),
    ("239.1.2.3%eth0", {"interface": "eth1"}, "interface is eth0 in the group but eth1 in interface=; give it once"),
    ("239.1.2.3%eth0", {"interface": "all"}, "interface is eth0 in the group but all in interface=; give it once"),
    ("239.1.2.3%3", {"interface": 2}, "interface is 3 in the group but 2 in interface=; give it once"),
    (
        "239.1.2.3%eth0",
        {"interface": FakeInterface("eth1", 2)},
        "interface is eth0 in the group but eth1 in interface=; give it once",
    ),
    (
        "10.0.0.7@232.1.2.3",
        {"source": ["10.0.0.7", "10.0.0.8"]},
        "source is 10.0.0.7 in the group but 10.0.0.7, 10.0.0.8 in source=; give it once",
    ),
]


@pytest.mark.parametrize(("text", "keywords", "complaint"), CONFLICTS)
def test_text_and_keyword_that_disagree_are_both_named(text: str, keywords: dict[str, Any], complaint: str) -> None:
    for group in (text, Group.parse(text, strict=False)):
        with pytest.raises(ValueError, match=f"^{re.escape(f'group {text!r}: {complaint}')}$"):
            Group.parse(group, **keywords)


BAD_KEYWORDS: list[tuple[dict[str, Any], str]] = [
    ({"port": 0}, "port 0 is not in 1 to 65535"),
    ({"port": 70000}, "port 70000 is not in 1 to 65535"),
    ({"port": -1}, "port -1 is not in 1 to 65535"),
    ({"source": []}, "source= names no source; pass None for any-source"),
    ({"source": ""}, "source '' is not an IPv4 or IPv6 address; names are not looked up"),
    ({"source": ["10.0.0.7", "10.0.0.7"]}, "source 10.0.0.7 is given twice; name each source once"),
    ({"source": "fd00::7"}, "source fd00::7 is IPv6 but group 239.1.2.3 is IPv4; both must be of one family"),
    ({"source": ["10.0.0.7", "fd00::7"]}, "source fd00::7 is IPv6 but group 239.1.2.3 is IPv4"),
    ({"interface": ""}, "interface is empty; write its name, index or address, or leave it out"),
    ({"interface": "veth0@if5"}, "interface 'veth0@if5' has characters that no group text can hold; give its index"),
]


@pytest.mark.parametrize(("keywords", "complaint"), BAD_KEYWORDS)
def test_a_bad_keyword_is_a_value_error_that_names_the_group(keywords: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        Group.parse("239.1.2.3", **keywords)
    assert str(caught.value).startswith("group '239.1.2.3': ")


@pytest.mark.parametrize("group", [None, b"239.1.2.3:5000", 5000, ("239.1.2.3", 5000)])
def test_a_group_that_is_no_text_is_a_type_error(group: Any) -> None:
    for parse in (Group.parse, Group.parse_destination):
        with pytest.raises(TypeError, match=f"a group is a text such as '239.1.2.3:5000', not {type(group).__name__}"):
            parse(group)


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"port": "5000"}, "port is an int, not str"),
        ({"port": 5000.0}, "port is an int, not float"),
        ({"port": True}, "port is an int, not bool"),
        ({"interface": True}, "interface is a name, an index, an address or an Interface, not bool"),
        ({"interface": b"eth0"}, "interface is a name, an index, an address or an Interface, not bytes"),
        ({"source": b"10.0.0.7"}, "source is a str, an IPv4Address or an IPv6Address, not bytes"),
        ({"source": 7}, "source is a str, an IPv4Address or an IPv6Address, not int"),
        ({"source": [None]}, "source is a str, an IPv4Address or an IPv6Address, not NoneType"),
    ],
)
def test_a_keyword_of_the_wrong_type_is_a_type_error(keywords: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TypeError, match=f"^{complaint}$"):
        Group.parse("239.1.2.3", **keywords)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"port": 5000.5}, "port is an int, not float"),
        ({"port": "5000"}, "port is an int, not str"),
        ({"port": True}, "port is an int, not bool"),
        ({"interface": 1}, "interface is a text, not int; Group.parse() takes indexes and others"),
        ({"interface": FakeInterface("eth0", 2)}, "interface is a text, not FakeInterface; Group.parse() takes"),
        ({"sources": ["10.0.0.7"]}, "a source is an address object, not str; Group.parse() reads texts"),
        ({"sources": "10.0.0.7"}, "a source is an address object, not str; Group.parse() reads texts"),
    ],
)
def test_a_field_of_the_wrong_type_is_a_type_error(fields: dict[str, Any], complaint: str) -> None:
    group = Group(IPv4Address("239.1.2.3"))
    with pytest.raises(TypeError, match=f"^{re.escape(complaint)}"):
        Group(group.address, **fields)
    with pytest.raises(TypeError, match=f"^{re.escape(complaint)}"):
        group.replace(**fields)


def test_a_port_is_kept_as_an_int() -> None:
    group = Group(IPv4Address("239.1.2.3"), np.uint16(5000))
    assert type(group.port) is int
    assert Group.parse(str(group)) == group


def test_a_group_built_by_hand_obeys_the_same_rules() -> None:
    group = IPv4Address("239.1.2.3")
    with pytest.raises(ValueError, match="port 0 is not in 1 to 65535"):
        Group(group, 0)
    with pytest.raises(ValueError, match=r"10\.0\.0\.1 is not a multicast address"):
        Group(IPv4Address("10.0.0.1"))
    with pytest.raises(ValueError, match="source fd00::7 is IPv6"):
        Group(group, sources=(IPv6Address("fd00::7"),))
    with pytest.raises(ValueError, match="names an interface"):
        Group(IPv6Address("ff12::1%eth0"))
    with pytest.raises(TypeError, match=re.escape("Group takes an address object, not str; Group.parse() reads texts")):
        Group("239.1.2.3")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("eth0", "interface address 'eth0' is not an IPv4 or IPv6 address; names are not looked up"),
        ("fe80::1%eth0", "interface address 'fe80::1%eth0' names an interface"),
        ("::ffff:10.0.0.1", "interface address ::ffff:10.0.0.1 is an IPv4-mapped address; write 10.0.0.1"),
    ],
)
def test_parse_address_names_the_part_that_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_address(text, what="interface address")
