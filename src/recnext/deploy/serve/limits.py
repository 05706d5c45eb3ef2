"""What the server accepts, and how it says no."""

from dataclasses import dataclass, fields
from functools import partial
from http import HTTPStatus
from typing import Any, Optional

from recnext.errors import RecNextError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Pillow's names of the accepted formats; GIF and animated WebP by their first frame."""

MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp")

_MOST = 100_000  # of anything: as seconds, more than a day


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on memory, time and waiting.

    Memory: at most `requests` bodies of `body_mib` are held, and each decoding process decodes one image, at 4 bytes a
    pixel, or 16 with transparency.

    Args:
        body_mib: size of an upload in MiB; more is answered 413.
        megapixels: of the decoded image; more is answered 413.
        requests: uploads in progress; more are answered 503.
        queue: decoded images waiting for the network; more are answered 503.
        connections: open at once; more are answered 503.
        header_seconds: for the headers of a request to arrive, then 408.
        receive_seconds: for the whole body to arrive, then 408.
        decode_seconds: for an image to be decoded; a process that takes longer is ended, and the answer is 422.
        answer_seconds: from the whole body to the answer, then 503.
        shutdown_seconds: for requests in progress to finish after SIGTERM or Ctrl-C; whatever hangs is ended then.
    """

    body_mib: float = 16
    megapixels: float = 50
    requests: int = 64
    queue: int = 128
    connections: int = 256
    header_seconds: float = 10
    receive_seconds: float = 20
    decode_seconds: float = 10
    answer_seconds: float = 30
    shutdown_seconds: float = 30

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value <= _MOST:
                raise RecNextError(f"limits.{field.name}={value}: expected a number above 0, at most {_MOST}")

    @property
    def body_bytes(self) -> int:
        """Bytes of the largest upload."""
        return int(self.body_mib * 2**20)

    @property
    def pixels(self) -> int:
        """Pixels of the largest image."""
        return int(self.megapixels * 1e6)


class RefusedError(Exception):
    """A request that is not served: the status and one line for the client.

    Args:
        status: HTTP status, 4xx or 5xx.
        reason: one line.
        kind: a word for the metrics, out of few.
        close: end the connection after the answer, as its body was not read.
        retry_after: seconds after which a client may try again.
    """

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        *,
        kind: str,
        close: bool = False,
        retry_after: Optional[int] = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = " ".join(reason.split())
        self.kind = kind
        self.headers: dict[str, str] = {}
        if close:
            self.headers["connection"] = "close"
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(RefusedError, kind=self.kind), (self.status, self.reason), self.__dict__


def unavailable(reason: str, *, kind: str, retry_after: int = 1) -> RefusedError:
    """A 503 that asks to come again after some seconds."""
    return RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, reason, kind=kind, retry_after=retry_after)


def unprocessable(reason: str, *, kind: str) -> RefusedError:
    """A 422: the request is understood, and its content is no good."""
    return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, reason, kind=kind)
