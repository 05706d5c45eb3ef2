"""Opening an image from a file or an address as a camera, a scanner or a web page left it."""

import io
import urllib.error
import urllib.request
from http.client import HTTPException

import numpy as np
from PIL import Image, ImageOps

from recnext._version import __version__
from recnext.prediction.inputs import is_url

TIMEOUT = 20.0  # seconds to wait for an answer
MAX_BYTES = 64 * 2**20  # of a downloaded file
_CHUNK = 2**16


class UnreadableImageError(Exception):
    """An image cannot be opened or decoded; the message says why, in one line."""


def open_image(image: str, *, grey: bool = False) -> Image.Image:
    """Opens and decodes an image: upright (EXIF), first frame, 8 bits, transparency over white.

    Args:
        image: a path, or an http or https address (20 s to answer, 64 MiB at most).
        grey: one channel instead of RGB.

    Raises:
        UnreadableImageError: it is missing, damaged, truncated, too large or no image.
    """
    try:
        with Image.open(_download(image) if is_url(image) else image) as file:
            file.load()
            return _upright(file).convert("L" if grey else "RGB")
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except (urllib.error.URLError, HTTPException, TimeoutError) as error:
        raise UnreadableImageError(f"cannot download: {getattr(error, 'reason', None) or error}") from None
    except Image.UnidentifiedImageError:
        raise UnreadableImageError("not an image, or a damaged one") from None
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        reason = str(error).strip().splitlines()
        raise UnreadableImageError(reason[0] if reason else type(error).__name__) from None


def _download(address: str) -> io.BytesIO:
    request = urllib.request.Request(address, headers={"User-Agent": f"recnext/{__version__}"})
    content = io.BytesIO()
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        while chunk := answer.read(_CHUNK):
            content.write(chunk)
            if content.tell() > MAX_BYTES:
                raise UnreadableImageError(f"larger than {MAX_BYTES // 2**20} MiB")
    content.seek(0)
    return content


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says, in 8 bits a channel, without transparency."""
    image = ImageOps.exif_transpose(image)
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
