"""Bodies of requests within bounds of size and time, and the image in a form."""

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Optional

import anyio
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from .limits import MEDIA_TYPES, Limits, RefusedError, unprocessable

FIELD = "file"
"""Name of the image in a form."""

_FRAMING = 4096  # bytes that a form may add to its file


async def read_upload(request: Request, *, limits: Limits) -> tuple[bytes, Optional[str]]:
    """Reads the body of a request: an image, or a form that `file_of_form` takes apart elsewhere.

    starlette has no bound on time, and its bound on size (`RequestBodyLimitMiddleware`) answers in plain text.

    Returns:
        The body, and its content type where it is a form.

    Raises:
        RefusedError: 408 slower than `limits.receive_seconds`, 413 larger than `limits.body_mib`, 415 another type.
    """
    declared = request.headers.get("content-type", "")
    kind = declared.partition(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if not form and kind not in (*MEDIA_TYPES, "application/octet-stream"):
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"content type {kind[:80] or 'missing'!r}: expected {', '.join(MEDIA_TYPES)}, application/octet-stream, "
            f"or multipart/form-data with a field {FIELD!r}",
            kind="format",
        )
    most = limits.body_bytes + (_FRAMING if form else 0)
    body = bytearray()
    try:
        with anyio.fail_after(limits.receive_seconds):
            if int(request.headers.get("content-length", 0)) > most:
                raise _too_large(limits, close="expect" in request.headers)  # it waits with its body for a word
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise _too_large(limits)
    except TimeoutError:
        reason = f"the body did not arrive within {limits.receive_seconds:g} s"
        raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, reason, kind="slow", close=True) from None
    return bytes(body), declared if form else None


def _too_large(limits: Limits, *, close: bool = False) -> RefusedError:
    reason = f"the body is larger than {limits.body_mib:g} MiB"
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason, kind="size", close=close)


class _InMemory(MultiPartParser):
    """Keeps files off the disk: the size of a body is bounded."""

    spool_max_size = 2**62


def file_of_form(body: bytes, content_type: str, *, limits: Limits) -> bytes:
    """The image in a multipart form.

    Parsing takes long where a body is made of beginnings of its boundary, so this is not called in the event loop.

    Raises:
        RefusedError: 413 the file is too large, 422 no form, or none with a file in the field ``file``.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    async def parse() -> bytes:
        headers = Headers({"content-type": content_type})
        parser = _InMemory(headers, stream(), max_files=1, max_fields=8, max_part_size=_FRAMING)
        upload = (await parser.parse()).get(FIELD)
        if not isinstance(upload, UploadFile):
            raise unprocessable(f"the form has no file in the field {FIELD!r}", kind="form")
        return await upload.read()

    try:
        image = asyncio.run(parse())
    except (MultiPartException, KeyError, ValueError) as error:
        reason = error.message if isinstance(error, MultiPartException) else f"damaged ({type(error).__name__})"
        raise unprocessable(f"the form cannot be read: {reason}", kind="form") from None
    if len(image) > limits.body_bytes:
        raise _too_large(limits)
    return image
