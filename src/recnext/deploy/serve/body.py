"""Bodies of requests, within bounds of size and time."""

from collections.abc import AsyncGenerator
from http import HTTPStatus

import anyio
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from .limits import MEDIA_TYPES, Limits, RefusedError

FIELD = "file"
"""Name of the image in a form."""

_FRAMING = 4096  # bytes that a form adds to its file


async def read_image_bytes(request: Request, *, limits: Limits) -> bytes:
    """The image in a request: the whole body, or the field ``file`` of a form.

    Raises:
        RefusedError: 408 too slow, 413 too large, 415 another media type, 422 no such field.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        body = await read_body(request, limits=limits, most=limits.body_bytes + _FRAMING)
        return await _file_of_form(request.headers, body, limits=limits)
    if kind not in (*MEDIA_TYPES, "application/octet-stream"):
        await discard(request.receive)
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"content type {kind[:80] or 'missing'!r}: expected {', '.join(MEDIA_TYPES)}, application/octet-stream, "
            f"or multipart/form-data with a field {FIELD!r}",
            kind="format",
            close=True,
        )
    return await read_body(request, limits=limits, most=limits.body_bytes)


async def read_body(request: Request, *, limits: Limits, most: int) -> bytes:
    """The body, of at most `most` bytes.

    Raises:
        RefusedError: 408 it took longer than `limits.receive_seconds`, 413 it is larger.
    """
    too_large = RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {limits.body_mib:g} MiB", kind="size", close=True
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        if "100-continue" not in request.headers.get("expect", "").lower():  # such a client has not sent it yet
            await discard(request.receive)
        raise too_large
    content = bytearray()
    try:
        with anyio.fail_after(limits.receive_seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most:
                    content.clear()
                    break
            else:
                return bytes(content)
    except TimeoutError:
        raise RefusedError(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body did not arrive within {limits.receive_seconds:g} s",
            kind="slow",
            close=True,
        ) from None
    await discard(request.receive)
    raise too_large


async def discard(receive: Receive, *, most: int = 128 * 2**20, seconds: float = 5.0) -> None:
    """Reads on for a while: a client that is still sending would not see the answer of a connection that ends.

    Args:
        receive: of the request.
        most: bytes.
        seconds: at most.

    Raises:
        ClientDisconnect: nobody is there to answer.
    """
    seen = 0
    with anyio.move_on_after(seconds):
        while seen < most:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            seen += len(message.get("body", b""))
            if not message.get("more_body", False):
                return


class _InMemory(MultiPartParser):
    """Keeps files out of the disk: the whole body is bounded."""

    spool_max_size = 2**62


async def _file_of_form(headers: Headers, body: bytes, *, limits: Limits) -> bytes:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = _InMemory(headers, stream(), max_files=1, max_fields=8, max_part_size=_FRAMING)
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise RefusedError(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"the form cannot be read: {_reason(error)}", kind="form"
        ) from None
    try:
        upload = form.get(FIELD)
        if not isinstance(upload, UploadFile):
            raise RefusedError(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"the form has no file in the field {FIELD!r}", kind="form"
            )
        return await upload.read()
    finally:
        await form.close()


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, MultiPartException) else f"damaged ({type(error).__name__})"
