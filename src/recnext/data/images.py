"""One way of opening images, so that training, evaluation and prediction see the same pixels."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from os import PathLike
from typing import IO, Any, Union

import numpy as np
from PIL import Image

from recnext.errors import RecNextError

from .download import DownloadError, download, is_url

_KNOWN: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "ICO": (".ico",),
    "TGA": (".tga",),
    "AVIF": (".avif",),  # since Pillow 11.3
    "HEIF": (".heic", ".heif"),  # of the plug-in pillow-heif, where it is installed
}
_ABSENT = {"AVIF"} - ({"AVIF"} if find_spec("PIL.AvifImagePlugin") else set())
if find_spec("pillow_heif"):
    import_module("pillow_heif").register_heif_opener()
else:
    _ABSENT |= {"HEIF"}

FORMATS = tuple(name for name in _KNOWN if name not in _ABSENT)
"""Pillow's names of what is opened, whatever a file is called: pixels alone. Formats that Pillow hands to another
program, or that are programs themselves (PostScript), are not among them."""

IMAGE_SUFFIXES = tuple(suffix for name in FORMATS for suffix in _KNOWN[name])
"""Lower-case endings of the files that are taken for images in a folder."""

OTHER_IMAGE_SUFFIXES = (
    *(suffix for name in _ABSENT for suffix in _KNOWN[name]),
    *(".jxl", ".psd", ".svg", ".eps", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".exr", ".hdr"),
    *(".dcm", ".npy"),
)
"""Endings of image files that are not read here, and are named where they are left out."""

_MOST_SCANS = 100  # of a JPEG; progressive ones have about ten
_MARKER = re.compile(rb"\xff+[^\x00\x01\xff\xd0-\xd8]")  # of a JPEG, with a length after it
_BYTES_PER_PIXEL = 16  # of a JPEG; noise in the best quality takes 5
_EXTRA_BYTES = 4 * 2**20  # of a JPEG: profiles, thumbnails, films
_ORIENTATION = 0x0112  # of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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


@contextmanager
def decoded(file: Union[str, PathLike[str], IO[bytes]]) -> Iterator[Image.Image]:
    """The first frame of an image as it is stored (a context manager).

    Raises:
        UnreadableImageError: it is missing, damaged, truncated, too large or no image.
    """
    try:
        with open_header(file) as image:
            _require_few_scans(image)
            image.load()
            yield image
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except Image.UnidentifiedImageError:
        raise UnreadableImageError("not an image, or a damaged one") from None
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        reason = str(getattr(error, "strerror", None) or error).strip().splitlines()
        raise UnreadableImageError(reason[0] if reason else type(error).__name__) from None


def read_image(file: Union[str, PathLike[str], IO[bytes]], *, grey: bool = False) -> Image.Image:
    """Decodes an image: upright (EXIF), first frame, 8 bits, transparency over white.

    Args:
        file: a path, or an open binary file.
        grey: one channel instead of RGB.

    Raises:
        UnreadableImageError: it is missing, damaged, truncated, too large or no image.
    """
    with decoded(file) as image:
        opaque, mode = _opaque(_upright(image)), "L" if grey else "RGB"
        return opaque if opaque.mode == mode else opaque.convert(mode)


def open_image(image: str, *, grey: bool = False) -> Image.Image:
    """Decodes an image, as `read_image` does, from a path or an http or https address.

    Raises:
        UnreadableImageError: it is missing, damaged, truncated, too large or no image, or cannot be downloaded.
    """
    if not is_url(image):
        return read_image(image, grey=grey)
    try:
        return read_image(download(image), grey=grey)
    except DownloadError as error:
        raise UnreadableImageError(str(error)) from None


def _require_few_scans(image: Image.Image) -> None:
    """Refuses a JPEG that passes over its pixels for minutes, or has megabytes for a few of them."""
    stream: Any = getattr(image, "fp", None)
    if image.format not in ("JPEG", "MPO") or stream is None:
        return
    place = stream.tell()
    stream.seek(0)
    data = stream.read()
    stream.seek(place)
    if data.count(b"\xff\xda") > _MOST_SCANS and _count_scans(data) > _MOST_SCANS:
        raise UnreadableImageError(f"a JPEG of more than {_MOST_SCANS} scans: expected a photograph")
    if len(data) > _EXTRA_BYTES + _BYTES_PER_PIXEL * image.width * image.height:
        raise UnreadableImageError(f"a JPEG of {len(data)} bytes for {image.width}x{image.height} pixels")


def _count_scans(data: bytes) -> int:
    """Scans as a JPEG decoder finds them, up to one too many; thumbnails and what follows the image do not count."""
    scans, position = 0, 2
    while scans <= _MOST_SCANS and (marker := _MARKER.search(data, position)):
        kind, position = data[marker.end() - 1], marker.end()
        if kind == 0xD9:  # the end of the image
            break
        scans += kind == 0xDA
        position += int.from_bytes(data[position : position + 2], "big")
    return scans


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; EXIF that cannot be read says nothing."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises errors of many kinds on damaged EXIF
        turn = None
    return image if turn is None else image.transpose(turn)


def _opaque(image: Image.Image) -> Image.Image:
    """The image in 8 bits a channel and without transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey images of 16 or 32 bits, or floating point: 16 bits are divided by 257, 0..1 is multiplied by 255."""
    pixels = np.array(image, dtype=np.float32)
    largest = float(pixels.max(initial=0))
    if image.mode == "F":
        scale = 255.0 if largest <= 1 else 1.0
    else:
        scale = 1 / 257 if image.mode.startswith("I;16") or largest > 255 else 1.0
    pixels *= scale
    return Image.fromarray(np.rint(pixels, out=pixels).clip(0, 255, out=pixels).astype(np.uint8))
