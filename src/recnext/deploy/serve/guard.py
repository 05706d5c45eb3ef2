"""Around the whole application: host names, the bound on requests, their ids, logs, metrics and headers."""

import logging
import time
import uuid
from collections.abc import Collection
from http import HTTPStatus
from typing import Any, Optional

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .body import discard
from .connections import error_line
from .limits import Limits
from .logs import LOG, log
from .metrics import Metrics

UNCOUNTED = ("/health", "/ready", "/metrics")
"""Paths that are answered however busy the server is, and are logged at debug level."""

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_DISCARDED = 2**20  # bytes of a body that is not wanted
_CLIENT_LEFT = 499  # as nginx writes it: the client was gone before the answer


class Guard:
    """ASGI middleware around an application that answers its own failures.

    Args:
        app: the application.
        limits: ``requests`` in progress.
        metrics: to count in.
        paths: that the application serves; others are counted as one.
        hosts: names that requests may be addressed to; None is any. A name it does not know may be another site's
            that points here (DNS rebinding), so it is answered 421.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        metrics: Metrics,
        paths: Collection[str],
        hosts: Optional[Collection[str]] = None,
    ) -> None:
        self.app = app
        self.limits = limits
        self.metrics = metrics
        self.paths = frozenset(paths)
        self.hosts = None if hosts is None else frozenset(hosts)
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        counted = scope["path"] not in UNCOUNTED
        exchange = _Exchange(send)
        scope.setdefault("state", {}).update(facts=exchange.facts, id=exchange.id)
        self._busy += counted
        self.metrics.in_progress.inc()
        try:
            if self.hosts is not None and host_name(Headers(scope=scope).get("host", "")) not in self.hosts:
                await discard(receive, most=_DISCARDED, seconds=1)
                await exchange.refuse(HTTPStatus.MISDIRECTED_REQUEST, "this server has another name", "host")
            elif counted and self._busy > self.limits.requests:
                await discard(receive, most=_DISCARDED, seconds=1)
                reason = f"{self.limits.requests} requests are in progress already"
                await exchange.refuse(HTTPStatus.SERVICE_UNAVAILABLE, reason, "busy")
            else:
                await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or _CLIENT_LEFT
        except Exception:
            exchange.facts["refused"] = "failure"
            LOG.exception("request failed", extra={"facts": {"id": exchange.id, "path": scope["path"]}})
        finally:
            self._busy -= counted
            self.metrics.in_progress.dec()
            self._record(scope, exchange, counted)

    def _record(self, scope: Scope, exchange: "_Exchange", counted: bool) -> None:
        path = scope["path"] if scope["path"] in self.paths else "other"
        seconds = time.perf_counter() - exchange.started
        self.metrics.requests.labels(path, scope["method"], exchange.status).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        if "refused" in exchange.facts:
            self.metrics.refused.labels(exchange.facts["refused"]).inc()
        log(
            "request",
            level=logging.INFO if counted else logging.DEBUG,
            id=exchange.id,
            client=scope["client"][0] if scope.get("client") else None,
            method=scope["method"],
            path=scope["path"][:200],
            status=exchange.status,
            ms=round(1e3 * seconds, 2),
            **exchange.facts,
        )


class _Exchange:
    """One request and its answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.id = uuid.uuid4().hex[:16]
        self.started = time.perf_counter()
        self.status = 0
        self.facts: dict[str, Any] = {}

    async def send(self, message: Message) -> None:
        """Adds our headers and remembers the status."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in {**_HEADERS, "x-request-id": self.id}.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def refuse(self, status: HTTPStatus, reason: str, kind: str) -> None:
        """Answers without the application."""
        self.facts["refused"] = kind
        body = error_line(reason)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers.append((b"connection", b"close"))
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append((b"retry-after", b"1"))
        await self.send({"type": "http.response.start", "status": int(status), "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def host_name(header: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]
