"""The process that serves: its socket, uvicorn, and an orderly end."""

import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Optional

import uvicorn

from recnext.errors import RecNextError

from .app import Service, make_app
from .connections import guarded_protocol
from .logs import log

_BACKLOG = 256
_KEEP_ALIVE = 5  # seconds that an idle connection stays


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
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecNextError(f"cannot listen on {host} port {port}: {reason}; --host and --port choose others") from None
    return sock


def url_of(sock: socket.socket) -> str:
    """The address of a listening socket, as a browser takes it."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if sock.family == socket.AF_INET6 else f"http://{host}:{port}"


def hosts_for(sock: socket.socket, extra: Sequence[str]) -> Optional[frozenset[str]]:
    """Names the server goes by: the loopback's and `extra`; any where it listens beyond loopback without `extra`."""
    address = sock.getsockname()[0]
    if not extra and not is_loopback(sock):
        return None
    return frozenset({"localhost", "127.0.0.1", "::1", address, *(name.strip().lower() for name in extra)})


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this machine reaches the socket."""
    return ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


class _Server(uvicorn.Server):
    """Tells when it listens."""

    on_start: Callable[[], None]

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        """As uvicorn does."""
        await super().startup(sockets)
        if self.started:
            self.on_start()


def make_server(
    service: Service, *, hosts: Optional[frozenset[str]] = None, on_start: Callable[[], None] = lambda: None
) -> uvicorn.Server:
    """uvicorn with the service's limits; call ``run(sockets=[sock])``.

    Args:
        service: what to serve.
        hosts: names that requests may be addressed to; None is any.
        on_start: called when connections are taken.
    """
    config = uvicorn.Config(
        make_app(service, hosts=hosts),
        http=guarded_protocol(service.limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(service.limits.shutdown_seconds)),
    )
    server = _Server(config)
    server.on_start = on_start
    return server


def serve(
    service: Service,
    sock: socket.socket,
    *,
    hosts: Optional[frozenset[str]] = None,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Serves until SIGTERM or Ctrl-C; requests in progress are answered first. A second Ctrl-C ends at once.

    Args:
        service: what to serve.
        sock: from `listen`; closed at the end.
        hosts: names that requests may be addressed to; None is any.
        on_start: called when connections are taken.
    """

    def started() -> None:
        classifier = service.classifier
        facts: dict[str, Any] = {"model": classifier.name, "backend": classifier.backend, "loopback": is_loopback(sock)}
        log("listening", url=url_of(sock), **facts)
        on_start()

    with closing(sock), _signals_end_quietly():
        make_server(service, hosts=hosts, on_start=started).run(sockets=[sock])
    log("stopped")


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """uvicorn raises the signal again after an orderly end; that end is what was asked for."""

    def ignore(number: int, frame: Any) -> None: ...

    before = {number: signal.signal(number, ignore) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
