"""Images from strangers: format and size are read from the header before anything is decoded."""

import io
from dataclasses import dataclass
from http import HTTPStatus

from PIL import Image

from recnext.data.images import UnreadableImageError, open_header, read_image

from .limits import FORMATS, Limits, RefusedError


@dataclass(frozen=True)
class Upload:
    """A decoded image."""

    image: Image.Image
    """RGB or grey, upright."""
    format: str
    """As Pillow names it."""


def decode(data: bytes, *, limits: Limits, shorter_side: int, grey: bool = False) -> Upload:
    """Decodes an image as `recnext predict` does, if it is of an accepted format and not too large.

    Args:
        data: the file.
        limits: on pixels, decoded and resized.
        shorter_side: in pixels, that the image is resized to before cropping: a picture one pixel high and very long
            grows by it.
        grey: one channel instead of RGB.

    Raises:
        RefusedError: 413 too many pixels, 415 another format, 422 empty, damaged or truncated.
    """
    if not data:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "the upload is empty: expected an image", kind="empty")
    try:
        with open_header(io.BytesIO(data), formats=FORMATS) as header:
            width, height, kind = *header.size, str(header.format)
    except Image.DecompressionBombError:
        raise _too_many_pixels("the image has", limits) from None
    except Image.UnidentifiedImageError:
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the upload is no image of an accepted format, or a damaged one: expected {', '.join(FORMATS)}",
            kind="format",
        ) from None
    except Exception as error:  # Pillow's plugins raise errors of many kinds on damaged headers
        raise _damaged(error) from None
    if width * height > limits.pixels:
        raise _too_many_pixels(f"{width}x{height} is", limits)
    growth = shorter_side / max(min(width, height), 1)
    if growth > 1 and width * height * growth**2 > limits.pixels:
        raise _too_many_pixels(f"{width}x{height}, resized to {shorter_side} pixels on its shorter side, is", limits)
    try:
        return Upload(read_image(io.BytesIO(data), grey=grey), kind)
    except UnreadableImageError as error:
        raise _damaged(error) from None


def _too_many_pixels(what: str, limits: Limits) -> RefusedError:
    return RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{what} more than {limits.megapixels:g} megapixels", kind="pixels"
    )


def _damaged(error: Exception) -> RefusedError:
    reason = str(error).strip() or type(error).__name__
    return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"the image is damaged: {reason}", kind="damaged")
