"""One way of opening images, so that training, evaluation and prediction see the same pixels."""

from dataclasses import dataclass
from typing import IO, Union

import numpy as np
from PIL import Image, ImageOps

from recnext.errors import RecNextError


class UnreadableImageError(RecNextError):
    """An image cannot be opened or decoded; the message says why, in one line."""


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read, and why."""

    image: str
    reason: str


def read_image(file: Union[str, IO[bytes]], *, grey: bool = False) -> Image.Image:
    """Decodes an image: upright (EXIF), first frame, 8 bits, transparency over white.

    Args:
        file: a path, or an open binary file.
        grey: one channel instead of RGB.

    Raises:
        UnreadableImageError: it is missing, damaged, truncated, too large or no image.
    """
    try:
        with Image.open(file) as image:
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
