"""One way of opening images, so that training, evaluation and prediction see the same pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from typing import IO, Union

import numpy as np
from PIL import Image, ImageOps

from recnext.errors import RecNextError

_AVIF = ("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()  # since Pillow 11.3
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "ICO", "TGA", *_AVIF)
"""Pillow's names of what is opened, whatever a file is called: pixels alone. Formats that Pillow hands to another
program, or that are programs themselves (PostScript), are not among them."""


class UnreadableImageError(RecNextError):
    """An image cannot be opened or decoded; the message says why, in one line."""


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read, and why."""

    image: str
    reason: str


def open_header(file: Union[str, PathLike[str], IO[bytes]], *, formats: Sequence[str] = FORMATS) -> Image.Image:
    """An image whose pixels are not decoded yet; the only way from a file to Pillow.

    Raises:
        UnidentifiedImageError: it is of none of the formats, or damaged.
        OSError: it cannot be opened.
        Exception: of other kinds, which Pillow's decoders raise on damaged files.
    """
    return Image.open(file, formats=tuple(formats))


def read_image(file: Union[str, IO[bytes]], *, grey: bool = False) -> Image.Image:
    """Decodes an image: upright (EXIF), first frame, 8 bits, transparency over white.

    Args:
        file: a path, or an open binary file.
        grey: one channel instead of RGB.

    Raises:
        UnreadableImageError: it is missing, damaged, truncated, too large or no image.
    """
    try:
        with open_header(file) as image:
            image.load()
            upright, mode = _upright(image), "L" if grey else "RGB"
            return upright if upright.mode == mode else upright.convert(mode)
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except Image.UnidentifiedImageError:
        raise UnreadableImageError("not an image, or a damaged one") from None
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        reason = str(error).strip().splitlines()
        raise UnreadableImageError(reason[0] if reason else type(error).__name__) from None


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says, in 8 bits a channel, without transparency."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey images of 16 or 32 bits, or floating point: 16 bits are divided by 257, 0..1 is multiplied by 255."""
    pixels = np.asarray(image, dtype=np.float32)
    largest = float(pixels.max(initial=0))
    if image.mode == "F":
        scale = 255.0 if largest <= 1 else 1.0
    else:
        scale = 1 / 257 if image.mode.startswith("I;16") or largest > 255 else 1.0
    return Image.fromarray(np.clip(np.rint(pixels * scale), 0, 255).astype(np.uint8))
