"""Connections that end when a client is too slow to ask or to read, and a bound on how many there are."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Optional

import uvicorn

from .limits import Limits
from .logs import LOG

Address = tuple[str, int]


class Connections:
    """Bounds on time and number that uvicorn lacks.

    uvicorn waits for ever for headers, for the rest of a body that was refused, and for a client to read its answer;
    its ``limit_concurrency`` does not count silent connections, and refuses health checks. Here a timer runs while
    something is to come and no request is in progress, and while an answer is not read.

    Args:
        limits: ``connections``, ``header_seconds`` and ``receive_seconds``.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: dict[Address, _BoundedProtocol] = {}

    def bound(self, config: uvicorn.Config) -> None:
        """Puts the bounds around uvicorn's protocol.

        That uvicorn makes connections by ``Config.http_protocol_class`` is not documented; where it does not, a
        warning says that they are not bounded.
        """
        config.load()
        inner = getattr(config, "http_protocol_class", None)
        if inner is None:
            LOG.warning("this uvicorn makes connections in another way: slow and silent ones are not bounded")
            return

        def make(**given: Any) -> _BoundedProtocol:
            return _BoundedProtocol(inner(**given), self)

        config.http_protocol_class = make  # type: ignore[assignment]

    @contextmanager
    def request_of(self, client: Optional[Address]) -> Iterator[None]:
        """Around a request whose headers have arrived: what serves it has bounds of its own."""
        connection = self.open.get(client) if client else None
        if connection is None:
            yield
            return
        connection.expect_nothing()
        connection.requests += 1
        try:
            yield
        finally:
            connection.requests -= 1


class _BoundedProtocol(asyncio.Protocol):
    """Passes everything on to another protocol and keeps time."""

    requests = 0

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._open = connections.open
        self._limits = connections.limits
        self._arriving: Optional[asyncio.TimerHandle] = None
        self._reading: Optional[asyncio.TimerHandle] = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._client: Address = tuple(transport.get_extra_info("peername")[:2])
        self._refused = len(self._open) >= self._limits.connections
        if self._refused:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            return
        self._open[self._client] = self
        transport.set_write_buffer_limits(high=0)  # `pause_writing` is called while any byte is not read
        self._inner.connection_made(transport)
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._inner.data_received(data)
        if not self.requests:  # headers in parts, or the rest of a body after its answer
            self._expect_request()

    def eof_received(self) -> Optional[bool]:
        return None if self._refused else self._inner.eof_received()

    def pause_writing(self) -> None:
        loop = asyncio.get_running_loop()
        self._reading = loop.call_later(self._limits.receive_seconds, self._transport.abort)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._inner.resume_writing()

    def connection_lost(self, error: Optional[Exception]) -> None:
        if self._refused:
            return
        self.expect_nothing()
        if self._reading is not None:
            self._reading.cancel()
        self._open.pop(self._client, None)
        self._inner.connection_lost(error)

    def expect_nothing(self) -> None:
        """Stops the timer of a request that has come."""
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _expect_request(self) -> None:
        if self._arriving is None:
            seconds = self._limits.header_seconds
            reason = f"the headers did not arrive within {seconds:g} s"
            loop = asyncio.get_running_loop()
            self._arriving = loop.call_later(seconds, self._refuse, HTTPStatus.REQUEST_TIMEOUT, reason)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        body = error_line(reason)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("ascii") + body)
        self._transport.close()


def error_line(reason: str, **more: Any) -> bytes:
    """The body of a refusal: one line of JSON, in ASCII."""
    return json.dumps({"error": reason, **more}).encode("ascii") + b"\n"
