"""Wraps the application: ids, logs and metrics of requests."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .connections import Connections, error_line
from .logs import LOG, log
from .metrics import Metrics

_QUIET = ("/health", "/ready", "/metrics")  # logged at debug level
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_CLIENT_LEFT = 499  # as nginx writes it: the client was gone before the answer


class Guard:
    """ASGI middleware around an application that answers its own failures.

    uvicorn's access log has neither ids nor times, and starlette counts nothing; this does both.

    Args:
        app: the application.
        metrics: to count in; paths that no route has and methods that HTTP has not are each counted as one.
        connections: to tell when requests begin and end.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, connections: Connections) -> None:
        self.app = app
        self.metrics = metrics
        self.connections = connections
        self.is_stopping: Callable[[], bool] = lambda: False
        """Asked at each answer: the last ones close their connections."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        identity = uuid.uuid4().hex[:16]
        facts: dict[str, Any] = {}
        scope.setdefault("state", {}).update(facts=facts, id=identity)

        async def send_ours(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.setdefault("x-request-id", identity)
                if self.is_stopping():
                    headers["connection"] = "close"
            await send(message)

        self.metrics.in_progress.inc()
        try:
            with self.connections.request_of(scope.get("client")):
                await self.app(scope, receive, send_ours)
        except ClientDisconnect:
            status = status or _CLIENT_LEFT
        except asyncio.CancelledError:  # at the end of the time for shutting down
            facts["refused"] = "stopping"
            if not status:
                stopping = Response(error_line("the server is stopping"), 503, media_type="application/json")
                await stopping(scope, receive, send_ours)
        except Exception:  # answered by the application
            facts["refused"] = "failure"
            LOG.exception("request failed", extra={"facts": {"id": identity, "path": scope["path"]}})
        finally:
            self.metrics.in_progress.dec()
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        facts = scope["state"]["facts"]
        self.metrics.requests.labels(path, method, status).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        if "refused" in facts:
            self.metrics.refused.labels(facts["refused"]).inc()
        log(
            "request",
            level=logging.DEBUG if path in _QUIET else logging.INFO,
            id=scope["state"]["id"],
            client=scope["client"][0] if scope.get("client") else None,
            method=scope["method"][:20],
            path=scope["path"][:200],
            status=status,
            ms=round(1e3 * seconds, 2),
            **facts,
        )
