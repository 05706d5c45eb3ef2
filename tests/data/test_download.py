"""Addresses, against a server in this process that answers badly."""

import io
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from PIL import Image

from recnext.data.download import DownloadError, download, open_stream
from recnext.data.images import UnreadableImageError, open_image


class Handler(BaseHTTPRequestHandler):
    """What each path answers; /drip and /header never end."""

    def do_GET(self):
        if self.path == "/header":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            self.drip()
            return
        status = {"/gone": 404, "/file": 302, "/ftp": 302, "/there": 302}.get(self.path, 200)
        self.send_response(status)
        places = {"/file": "file:///etc/passwd", "/ftp": "ftp://localhost/x", "/there": "/image"}
        if self.path in places:
            self.send_header("Location", places[self.path])
        self.end_headers()
        if self.path == "/image":
            content = io.BytesIO()
            Image.new("RGB", (8, 6), (10, 20, 30)).save(content, "PNG")
            self.wfile.write(content.getvalue())
        elif self.path == "/page":
            self.wfile.write(b"<html>")
        elif self.path == "/drip":
            self.drip()

    def drip(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def log_message(self, *args):
        """Nothing."""


@pytest.fixture(scope="module")
def site():
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request, client_address):
            """A client that has gone is what the test wants."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_images_behind_addresses_are_read_as_files_are(site):
    for path in ("/image", "/there"):
        assert np.array_equal(np.asarray(open_image(site + path)), np.full((6, 8, 3), (10, 20, 30)))
    with pytest.raises(UnreadableImageError, match="not an image"):
        open_image(f"{site}/page")


@pytest.mark.parametrize(
    ("path", "reason"), [("/gone", "Not Found"), ("/file", "not allowed"), ("/ftp", "unknown url type: ftp")]
)
def test_what_an_address_does_not_give_is_said(site, path, reason):
    with pytest.raises(UnreadableImageError, match=f"cannot download: .*{reason}"):
        open_image(site + path)


def test_no_server_and_no_address(site):
    with pytest.raises(DownloadError, match=r"cannot download: .*refused"):
        download("http://127.0.0.1:1/x")
    with pytest.raises(DownloadError, match="cannot download: no host given"):
        download("http://")


@pytest.mark.parametrize("path", ["/drip", "/header"])
def test_a_server_that_drips_is_left_after_a_while(site, path):
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"cannot download: slower than 0\.5 seconds"):
        download(site + path, seconds=0.5)
    assert time.monotonic() - start < 5


def test_size_is_bounded(site):
    with pytest.raises(DownloadError, match="larger than 0 MiB"):
        download(f"{site}/image", max_bytes=10)


def test_streams_are_read_in_parts(site):
    with open_stream(f"{site}/page") as stream:
        assert stream.read(3) + stream.read() == b"<html>"
