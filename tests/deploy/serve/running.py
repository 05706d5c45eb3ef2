"""A server in a thread, and a client that sees every byte."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

from recnext.deploy.serve.classifier import ServedClassifier
from recnext.deploy.serve.limits import Limits
from recnext.deploy.serve.server import hosts_for, listen, make_server
from recnext.deploy.serve.service import Service

CLASSIFY = "/v1/classify"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The reason of a refusal, which is one line of JSON."""
        assert self.headers["content-type"] == "application/json"
        assert self.body.endswith(b"}\n")
        assert self.body.count(b"\n") == 1
        return self.json["error"]


@dataclass
class Running:
    service: Service
    port: int
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Optional[bytes] = None, kind: str = "image/png", **headers: str
    ) -> Reply:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None:
                sent["content-type"] = kind
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, names, answer.read())

    def classify(self, image: bytes, query: str = "", **more: str) -> Reply:
        return self.ask("POST", CLASSIFY + query, image, **more)

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def metric(self, name: str) -> float:
        """A sample by its name and labels as Prometheus writes them."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])

    def alive(self) -> bool:
        return self.ask("GET", "/ready").json == {"status": "ready"}


def read_reply(sock: socket.socket) -> Reply:
    """What the server writes until it ends the connection."""
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def form(content: bytes, *, field: str = "file", file: bool = True) -> tuple[bytes, str]:
    name = '; filename="x.png"' if file else ""
    head = f'--xyz\r\ncontent-disposition: form-data; name="{field}"{name}\r\ncontent-type: image/png\r\n\r\n'
    return head.encode() + content + b"\r\n--xyz--\r\n", "multipart/form-data; boundary=xyz"


@contextmanager
def running(
    classifier: ServedClassifier, *, hosts: tuple[str, ...] = (), largest_batch: int = 8, **limits: Any
) -> Iterator[Running]:
    """Serves on a free port of the loopback until the block ends."""
    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    service = Service(classifier, limits=Limits(**limits), largest_batch=largest_batch)
    server = make_server(service, hosts=hosts_for(sock, hosts))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    assert server.started
    try:
        yield Running(service, port, partial(setattr, server, "should_exit", True))
    finally:
        server.should_exit = True
        thread.join(30)
        sock.close()
        assert not thread.is_alive(), "the server did not stop"
