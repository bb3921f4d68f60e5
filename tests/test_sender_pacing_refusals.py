"""A wrong rate or burst is one clear error, before there is a socket."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from receivelab import descriptors, plain_socket

from mcastfast import Sender

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"rate": 0}, ValueError, "rate=0 is not a rate of 0.001 to 1,000,000,000 datagrams each second"),
    ({"rate": -5}, ValueError, "rate=-5 is not a rate of "),
    ({"rate": float("nan")}, ValueError, "rate=nan is not a finite number"),
    ({"rate": "0 bit/s"}, ValueError, "rate='0 bit/s' is not a rate of 1 bit/s to 1 Tbit/s"),
    ({"rate": "fast"}, ValueError, "rate='fast' is not a rate, such as 1000, '100_000/s'"),
    ({"rate": True}, TypeError, "rate is a number of datagrams each second or text, such as"),
    ({"rate": [1000]}, TypeError, "rate is a number of datagrams each second or text, such as"),
    ({"rate": 1000, "burst": 0}, ValueError, "burst=0 is not in 1 to 1024 datagrams"),
    ({"rate": 1000, "burst": 1.5}, TypeError, "burst is a whole number of datagrams, not 1.5"),
    ({"burst": 2}, ValueError, "burst=2 goes with a rate="),
    ({"rate": 1000, "rate_counts": "wire"}, ValueError, "rate_counts='wire' goes with a rate in bits"),
    ({"rate": 1000, "rate_counts": ["wire"]}, ValueError, "rate_counts=['wire'] is not one of: payload, wire"),
]


@pytest.mark.parametrize(("options", "kind", "text"), WRONG, ids=lambda value: str(value) if value else None)
def test_a_sender_refuses_before_there_is_a_socket(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(kind) as caught:
        Sender("239.1.2.3:5000", interface="lo", **options)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(("options", "kind", "text"), WRONG, ids=lambda value: str(value) if value else None)
def test_a_prepared_socket_stays_its_owner_s(
    isolated: None, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with plain_socket(socket.AF_INET) as sock:
        sock.connect(("127.0.0.1", 9))
        before = descriptors()
        with pytest.raises(kind) as caught:
            Sender.from_socket(sock, **options)
        assert str(caught.value).startswith(text)
        assert descriptors() == before
        assert sock.fileno() >= 0
