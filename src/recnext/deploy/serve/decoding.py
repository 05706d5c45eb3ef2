"""Images from strangers: format and size are read from the header before anything is decoded."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Optional

import numpy as np
from PIL import Image
from torch import Tensor

from recnext.data.images import UnreadableImageError, open_header, read_image

from .body import file_of_form
from .limits import FORMATS, Limits, RefusedError, unprocessable


@dataclass(frozen=True)
class PreparedImage:
    """An image as the network takes it, uint8 (channels, H, W), and what it was, upright, with Pillow's name of it."""

    pixels: np.ndarray
    width: int
    height: int
    format: str


@dataclass(frozen=True)
class UploadDecoder:
    """From an upload to a network's input; it can be sent to another process.

    Args:
        transform: from an image to uint8 (channels, H, W), as `ImagePreparation.evaluation_transform`.
        channels: 1 (grey) or 3 (RGB).
        limits: on bytes and pixels.
    """

    transform: Callable[[Image.Image], Tensor]
    channels: int
    limits: Limits

    def __call__(self, body: bytes, form: Optional[str]) -> PreparedImage:
        """Finds the image in a body, decodes, resizes and crops it as `recnext predict` does.

        Args:
            body: an image, or a form.
            form: content type of the form; None for an image.

        Raises:
            RefusedError: 413 too many bytes or pixels, 415 another format, 422 empty, damaged or truncated.
        """
        data = body if form is None else file_of_form(body, form, limits=self.limits)
        image, kind = decode(data, limits=self.limits, grey=self.channels == 1)
        return PreparedImage(self.transform(image).numpy(), *image.size, kind)


def decode(data: bytes, *, limits: Limits, grey: bool = False) -> tuple[Image.Image, str]:
    """An image, RGB or grey and upright, and the name of its format, if it is accepted and not too large.

    Raises:
        RefusedError: 413 too many pixels, 415 another format, 422 empty, damaged or truncated.
    """
    if not data:
        raise unprocessable("the upload is empty: expected an image", kind="empty")
    try:
        with open_header(io.BytesIO(data), formats=FORMATS) as header:
            width, height, kind = *header.size, str(header.format)
    except Image.DecompressionBombError:
        raise _too_large("the image has", limits) from None
    except Image.UnidentifiedImageError:
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the upload is no image of an accepted format, or a damaged one: expected {', '.join(FORMATS)}",
            kind="format",
        ) from None
    except Exception as error:  # Pillow's plugins raise errors of many kinds on damaged headers
        raise _damaged(error) from None
    if width * height > limits.pixels:
        raise _too_large(f"{width}x{height} is", limits)
    try:
        return read_image(io.BytesIO(data), grey=grey), kind
    except UnreadableImageError as error:
        raise _damaged(error) from None


def _too_large(what: str, limits: Limits) -> RefusedError:
    reason = f"{what} more than {limits.megapixels:g} megapixels"
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason, kind="pixels")


def _damaged(error: Exception) -> RefusedError:
    return unprocessable(f"the image is damaged: {str(error).strip() or type(error).__name__}", kind="damaged")
