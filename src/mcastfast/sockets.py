"""Prepared sockets that a Receiver or Sender takes over."""

from __future__ import annotations

import socket
from typing import TypeAlias

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""(host, port), IPv6 (host, port, flow information, scope), as the socket module gives it."""


def check_datagram_socket(sock: object, call: str) -> None:
    """Raise TypeError for what is not a socket, ValueError for one that is closed or not an IP datagram socket."""
    if not isinstance(sock, socket.socket):
        raise TypeError(f"{call} takes a socket.socket, not {type(sock).__name__}")
    if sock.fileno() < 0:
        raise ValueError(f"{call}: the socket is closed")
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_DGRAM:
        raise ValueError(
            f"{call} takes an AF_INET or AF_INET6 socket of type SOCK_DGRAM, not {sock.family.name} {sock.type.name}"
        )
