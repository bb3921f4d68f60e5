"""The other end of the network that tests under Wine have: Linux' mcastfast, and sockets as other programs have them.

A thread of the driver: it listens in the first far namespace, and makes what the tests ask for, a JSON array of the
call's name and its arguments in a line, in the namespace of whichever link that is about. See tests/hostlab.py.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from receivelab import V4, V6, Source, at

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from netlab import Link, Namespace


class FarEnd:
    """What tests have open on the far links, by number; `near` is the host of the tests."""

    def __init__(self, near: Namespace, links: list[Link]) -> None:
        self._near = near
        self._links = {link.ipv4: link for link in links}
        self._open: list[Any] = []
        with links[0].namespace:
            self._listener = socket.create_server((links[0].ipv4, 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, name="far-end", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it, with all that is open."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rw", encoding="ascii", newline="\n") as stream:
            for line in stream:
                call, *arguments = json.loads(line)
                answer: tuple[str | None, Any]
                try:
                    answer = None, self._calls[call](self, *arguments)
                except Exception as error:
                    answer = repr(error), None
                stream.write(json.dumps(answer) + "\n")
                stream.flush()

    def _keep(self, opened: Any) -> int:
        self._open.append(opened)
        return len(self._open) - 1

    def proc(self, name: str) -> str:
        return self._near.proc(name)

    def open_source(self, ipv4: str) -> tuple[int, dict[str, int]]:
        source = Source(self._links[ipv4])
        return self._keep(source), {"4": source.port(V4), "6": source.port(V6)}

    def send(self, number: int, host: str, port: int, payloads: list[str]) -> None:
        self._open[number].send(host, *map(base64.b64decode, payloads), port=port)

    def open_receiver(self, ipv4: str, group: str, options: dict[str, Any]) -> int:
        link = self._links[ipv4]
        with link.namespace:
            return self._keep(Receiver(at(group, link), **options))

    def receive(self, number: int, timeout: float) -> list[list[Any]]:
        try:
            batch = self._open[number].recv_batch(timeout)
        except TimeoutError:
            return []
        return [
            [base64.b64encode(one).decode(), one.source, one.destination, one.hops, one.tos, one.truncated]
            for one in batch
        ]

    def open_sender(self, ipv4: str, group: str, options: dict[str, Any]) -> int:
        link = self._links[ipv4]
        with link.namespace:
            return self._keep(Sender(at(group, link), **options))

    def send_batch(self, number: int, payloads: list[str]) -> None:
        self._open[number].send_batch([base64.b64decode(payload) for payload in payloads])

    def close_one(self, number: int) -> None:
        self._open[number].close()

    _calls: ClassVar[dict[str, Callable[..., Any]]] = {
        "proc": proc,
        "open_source": open_source,
        "send": send,
        "open_receiver": open_receiver,
        "receive": receive,
        "open_sender": open_sender,
        "send_batch": send_batch,
        "close": close_one,
    }
