"""The process that serves: its socket, uvicorn, and an orderly end."""

import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn, Optional

import uvicorn

from recnext.errors import RecNextError

from .app import make_app
from .connections import Connections
from .guard import Guard
from .logs import log
from .service import Service

_BACKLOG = 256
_KEEP_ALIVE = 5  # seconds that an idle connection stays
_GRACE = 0.8  # of the time for shutting down: then requests in progress are cancelled
_LAST_WORDS = 0.1  # seconds of that time that ending by force may take
_HEADERS = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-cache"),
]


def listen(host: str, port: int) -> socket.socket:
    """Binds, before a network is loaded for nothing.

    Args:
        host: name or address.
        port: 0 for any that is free.

    Raises:
        RecNextError: the address is not ours or taken, or the port may not be bound.
    """
    if not 0 <= port <= 65535:  # the system would take it modulo 65536
        raise RecNextError(f"--port is {port}: expected 0 to 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(*found[:3])
        with ExitStack() as stack:
            stack.callback(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(found[4])
            stack.pop_all()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecNextError(f"cannot listen on {host} port {port}: {reason}; --host and --port choose others") from None
    return sock


def url_of(sock: socket.socket) -> str:
    """The address of a listening socket, as a browser takes it."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if sock.family == socket.AF_INET6 else f"http://{host}:{port}"


def hosts_for(sock: socket.socket, extra: Sequence[str]) -> Optional[frozenset[str]]:
    """Names the server goes by: the loopback's and `extra`; any where it listens beyond loopback without `extra`.

    Raises:
        RecNextError: a star is elsewhere than in the place of a first label.
    """
    if not extra and not is_loopback(sock):
        return None
    address = sock.getsockname()[0]
    names = [name.strip().lower() for name in extra]
    for name in names:
        if "*" in name.removeprefix("*."):
            raise RecNextError(f"--hosts names {name!r}: expected a name, or *.example.com for all that end so")
    return frozenset({"localhost", "127.0.0.1", "[::1]", f"[{address}]" if ":" in address else address, *names})


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this machine reaches the socket."""
    return ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


class _Server(uvicorn.Server):
    """Says when it listens, and ends when its time for shutting down is over, whatever hangs."""

    on_start: Callable[[], None]
    last_resort: threading.Timer

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        """As uvicorn does."""
        await super().startup(sockets)
        if self.started:
            self.on_start()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """As uvicorn does, and a timer runs: uvicorn waits for threads and for its event loop without end."""
        if not self.should_exit:
            self.last_resort.start()
        super().handle_exit(sig, frame)


def make_server(
    service: Service, *, hosts: Optional[frozenset[str]] = None, on_start: Callable[[], None] = lambda: None
) -> _Server:
    """uvicorn with the service's limits; call ``run(sockets=[sock])``.

    Args:
        service: what to serve.
        hosts: names that requests may be addressed to; None is any.
        on_start: called when connections are taken.
    """
    connections = Connections(service.limits)
    guard = Guard(make_app(service, hosts=hosts), metrics=service.metrics, connections=connections)
    seconds = service.limits.shutdown_seconds
    config = uvicorn.Config(
        guard,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        headers=_HEADERS,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE * seconds,  # type: ignore[arg-type]  # handed to asyncio
    )
    connections.bound(config)
    server = _Server(config)
    server.on_start = on_start
    server.last_resort = threading.Timer(max(0.0, seconds - _LAST_WORDS), _end_late, [service])
    server.last_resort.daemon = True
    guard.is_stopping = lambda: server.should_exit
    return server


def serve(
    service: Service,
    sock: socket.socket,
    *,
    hosts: Optional[frozenset[str]] = None,
    on_start: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Serves until SIGTERM or Ctrl-C, and then ends the process; a second Ctrl-C ends it at once.

    Requests in progress are answered first. The status is 0, or 1 where something still ran after
    ``shutdown_seconds``. Python is not taken down in order, which takes seconds and waits for threads.

    Args:
        service: what to serve.
        sock: from `listen`.
        hosts: as of `make_server`.
        on_start: as of `make_server`.
    """
    server = make_server(service, hosts=hosts, on_start=on_start)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)  # also when uvicorn raises the signal again, after an orderly end
    server.run(sockets=[sock])
    log("stopped")
    _end_process(service, status=0)


def _end_late(service: Service) -> None:
    log("ended by force: something was still running", level=logging.ERROR)
    _end_process(service, status=1)


def _end_process(service: Service, *, status: int) -> NoReturn:
    service.decoders.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
