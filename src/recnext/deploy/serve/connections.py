"""Connections of uvicorn that end when a client is too slow to ask, or when there are too many."""

import asyncio
import json
from http import HTTPStatus
from typing import Any, Optional

from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import Limits


def guarded_protocol(limits: Limits) -> type[H11Protocol]:
    """uvicorn's HTTP/1.1 protocol with bounds on the time of headers and answers and the number of connections.

    uvicorn itself waits for ever for headers, for the rest of a body that was refused, and for a client to read
    its answer; and it refuses in plain text.

    Args:
        limits: ``header_seconds``, ``receive_seconds`` and ``connections``.
    """

    class GuardedProtocol(H11Protocol):
        _request_due: Optional[asyncio.TimerHandle] = None
        _reading_due: Optional[asyncio.TimerHandle] = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            else:
                self._expect_request()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._cancel()  # its application has limits of its own
            else:  # headers in parts, or the rest of a body after its answer
                self._expect_request()

        def on_response_complete(self) -> None:
            answered = self.cycle
            super().on_response_complete()
            if self.transport.get_write_buffer_size():
                self.loop.call_later(limits.receive_seconds, self._end_if_unread, answered)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reading_due = self.loop.call_later(limits.receive_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._reading_due is not None:
                self._reading_due.cancel()

        def connection_lost(self, exc: Optional[Exception]) -> None:
            self._cancel()
            super().connection_lost(exc)

        def _end_if_unread(self, answered: object) -> None:
            if self.cycle is answered and self.transport.get_write_buffer_size():
                self.transport.abort()

        def send_400_response(self, msg: str) -> None:
            self._refuse(HTTPStatus.BAD_REQUEST, msg)

        def _expect_request(self) -> None:
            if self._request_due is None:
                self._request_due = self.loop.call_later(
                    limits.header_seconds,
                    self._refuse,
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the headers did not arrive within {limits.header_seconds:g} s",
                )

        def _cancel(self) -> None:
            if self._request_due is not None:
                self._request_due.cancel()
                self._request_due = None

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
