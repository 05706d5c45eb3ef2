"""Reading http and https addresses, bounded in size and in time however slowly a server answers."""

import io
import time
import urllib.request
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any, Optional

from recnext._version import __version__
from recnext.errors import RecNextError

SILENCE = 20.0  # seconds to wait for the next byte
SECONDS = 120.0  # to wait for a file altogether
MAX_BYTES = 64 * 2**20  # of a file
_LEAST_RATE = 2**10  # bytes a second that a stream has to give


class DownloadError(RecNextError):
    """An address gives nothing, too much, or too slowly; the message says why, in one line."""


def is_url(name: str) -> bool:
    """Whether a name is an http or https address."""
    return name.lower().startswith(("http://", "https://"))


def download(address: str, *, max_bytes: int = MAX_BYTES, seconds: float = SECONDS) -> io.BytesIO:
    """The file behind an http or https address.

    Args:
        address: of the file; a redirection may lead to another http or https address.
        max_bytes: that it may have.
        seconds: that waiting for it may take altogether.

    Raises:
        DownloadError: there is none, it is larger, or takes longer.
    """
    try:
        with _opener(seconds, stream=False).open(_request(address), timeout=min(SILENCE, seconds)) as answer:
            content = answer.read(max_bytes + 1)
    except (OSError, HTTPException, ValueError) as error:  # no connection, no such page, no address at all
        raise DownloadError(f"cannot download: {reason_of(error)}") from None
    if len(content) > max_bytes:
        raise DownloadError(f"larger than {max_bytes // 2**20} MiB")
    return io.BytesIO(content)


def open_stream(address: str) -> IO[bytes]:
    """An http or https address to read from, of any length, as long as it gives a kilobyte a second.

    Raises:
        OSError: there is no such page or connection; also while reading.
    """
    answer: IO[bytes] = _opener(SECONDS, stream=True).open(_request(address), timeout=SILENCE)
    return answer


def reason_of(error: Exception) -> str:
    """What an error of a connection says, in one line."""
    return " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__


def _request(address: str) -> urllib.request.Request:
    return urllib.request.Request(address, headers={"User-Agent": f"recnext/{__version__}"})


def _opener(seconds: float, *, stream: bool) -> urllib.request.OpenerDirector:
    """Opens http and https alone: a redirection to a file or another scheme is an error."""
    response = partial(_WatchedResponse, seconds=seconds, stream=stream)

    def connect(kind: Any, host: str, **options: Any) -> HTTPConnection:
        connection: HTTPConnection = kind(host, **options)
        connection.response_class = response  # type: ignore[assignment]
        return connection

    class Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
        def http_open(self, request: urllib.request.Request) -> HTTPResponse:
            return self.do_open(partial(connect, HTTPConnection), request)  # type: ignore[arg-type]

        def https_open(self, request: urllib.request.Request) -> HTTPResponse:
            return self.do_open(partial(connect, HTTPSConnection), request)  # type: ignore[arg-type]

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        Handler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _WatchedResponse(HTTPResponse):
    """An answer whose headers and body are read through `_Watched`."""

    def __init__(self, sock: Any, *args: Any, seconds: float, stream: bool, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        raw = self.fp.detach()  # type: ignore[union-attr]
        self.fp = io.BufferedReader(_Watched(raw, seconds, _LEAST_RATE if stream else None))  # type: ignore[assignment]


class _Watched(io.RawIOBase):
    """A socket's bytes, for as long as waiting for them takes at most `seconds`, or a second more for each `rate`."""

    def __init__(self, raw: Any, seconds: float, rate: Optional[float]) -> None:
        self._raw = raw
        self._seconds = seconds
        self._rate = rate
        self._waited = 0.0
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        allowed = self._seconds + (self._received / self._rate if self._rate else 0)
        if self._waited > allowed:
            raise TimeoutError(f"slower than {self._seconds:g} seconds" if not self._rate else "slower than 1 KiB/s")
        start = time.monotonic()
        try:
            count: Optional[int] = self._raw.readinto(buffer)
        finally:
            self._waited += time.monotonic() - start
        self._received += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
