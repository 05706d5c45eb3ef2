"""Connections of uvicorn that end when a client is too slow to ask, or when there are too many."""

import asyncio
import json
from http import HTTPStatus
from typing import Any, Optional

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import Limits


def guarded_protocol(limits: Limits) -> type[H11Protocol]:
    """uvicorn's HTTP/1.1 protocol with bounds on the headers' time and the number of connections.

    uvicorn itself waits for headers for ever, and refuses in plain text.

    Args:
        limits: ``header_seconds`` and ``connections``.
    """

    class GuardedProtocol(H11Protocol):
        _headers_due: Optional[asyncio.TimerHandle] = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            else:
                self._expect_headers()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._cancel()
            elif self._headers_due is None:  # a further request has begun
                self._expect_headers()

        def connection_lost(self, exc: Optional[Exception]) -> None:
            self._cancel()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            self._refuse(HTTPStatus.BAD_REQUEST, msg)

        def _expect_headers(self) -> None:
            self._headers_due = self.loop.call_later(
                limits.header_seconds,
                self._refuse,
                HTTPStatus.REQUEST_TIMEOUT,
                f"the headers did not arrive within {limits.header_seconds:g} s",
            )

        def _cancel(self) -> None:
            if self._headers_due is not None:
                self._headers_due.cancel()
                self._headers_due = None

        def _refuse(self, status: HTTPStatus, reason: str) -> None:
            self._cancel()
            if self.cycle is not None and not self.cycle.response_complete:  # an answer is being written
                self.transport.close()
                return
            body = error_line(reason)
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode("ascii") + body)
            self.transport.close()

    return GuardedProtocol


def error_line(reason: str, **more: Any) -> bytes:
    """The body of a refusal: one line of JSON."""
    return json.dumps({"error": reason, **more}, ensure_ascii=False).encode() + b"\n"
