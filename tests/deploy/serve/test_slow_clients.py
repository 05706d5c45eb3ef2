import asyncio
import contextlib
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from deploy.serve.running import read_reply
from recnext.deploy.serve.connections import Connections
from recnext.deploy.serve.limits import Limits


@pytest.fixture
def server(start):
    return start(header_seconds=0.4, receive_seconds=0.6, connections=6)


def drip(sock: socket.socket, text: bytes, seconds: float) -> None:
    """Sends a byte every tenth of a second until the other side ends it."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        for byte in text:
            if time.monotonic() > end:
                return
            sock.sendall(bytes([byte]))
            time.sleep(0.1)


def test_silent_connection_is_ended(server):
    with server.open() as sock:
        answer = read_reply(sock)
    assert (answer.status, answer.error) == (408, "the headers did not arrive within 0.4 s")
    assert server.alive()


def test_headers_byte_by_byte(server):
    with server.open() as sock:
        drip(sock, b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x-more: 1\r\n" * 10, 3)
        with contextlib.suppress(ConnectionError):  # the answer may be lost to what came after it
            assert read_reply(sock).status == 408
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""
    assert server.alive()


def test_headers_of_the_second_request(server):
    """After an answer the connection may rest, but a request that has begun has to come."""
    with server.open() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        received = b""
        while not received.endswith(b'"alive"}'):
            received += sock.recv(2000)
        assert received.startswith(b"HTTP/1.1 200 ")
        time.sleep(0.6)
        sock.sendall(b"GET /health HT")
        assert read_reply(sock).status == 408
    assert server.alive()


def test_body_byte_by_byte(server):
    head = b"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n"
    with server.open() as sock:
        sock.sendall(head)
        drip(sock, b"\x89PNG\r\n\x1a\n" * 2, 1.2)
        answer = read_reply(sock)
    assert (answer.status, answer.error) == (408, "the body did not arrive within 0.6 s")
    assert answer.headers["connection"] == "close"
    assert server.alive()


def test_rest_of_a_refused_body_byte_by_byte(server):
    """The answer comes at once; what is left of the body may not hold the connection."""
    with server.open() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n")
        assert sock.recv(2000).startswith(b"HTTP/1.1 200 ")
        started = time.monotonic()
        drip(sock, b"x" * 100, 5)
        assert time.monotonic() - started < 3
    assert server.alive()


def test_client_that_leaves_in_the_middle(server):
    with server.open() as sock:
        sock.sendall(
            b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 99\r\n\r\nabc"
        )
    assert server.alive()


def test_answer_that_is_not_read():
    """A protocol that answers with 50 MB meets a client that reads nothing of it."""
    lost = threading.Event()

    class Flood(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(bytes(50 * 2**20))

        def connection_lost(self, error):
            lost.set()

    async def main() -> None:
        config = SimpleNamespace(load=lambda: None, http_protocol_class=Flood)
        Connections(Limits(receive_seconds=0.3)).bound(config)
        server = await asyncio.get_running_loop().create_server(config.http_protocol_class, "127.0.0.1", 0)
        async with server:
            with socket.create_connection(server.sockets[0].getsockname()):
                assert await asyncio.to_thread(lost.wait, 5)

    asyncio.run(main())


def test_too_many_connections(server):
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.open()) for _ in range(6)]
        with server.open() as sock:
            answer = read_reply(sock)
        assert (answer.status, answer.error) == (503, "too many connections")
        for sock in idle:
            assert read_reply(sock).status == 408
    assert server.alive()


@pytest.mark.parametrize("text", [b"rubbish\r\n\r\n", b"x" * 100_000])
def test_what_is_no_http(server, text):
    with server.open() as sock, contextlib.suppress(ConnectionError):
        sock.sendall(text)
        answer = read_reply(sock)
        assert answer.status == 400
        assert b"Invalid HTTP request" in answer.body
    assert server.alive()
