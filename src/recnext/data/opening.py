"""Opening an image from a file or an address as a camera, a scanner or a web page left it."""

import io
import urllib.request
from http.client import HTTPException

from PIL import Image

from recnext._version import __version__

from .images import UnreadableImageError, read_image
from .inputs import is_url

TIMEOUT = 20.0  # seconds to wait for an answer
MAX_BYTES = 64 * 2**20  # of a downloaded file
_CHUNK = 2**16


def open_image(image: str, *, grey: bool = False) -> Image.Image:
    """Opens and decodes an image as `recnext.data.images.read_image` does.

    Args:
        image: a path, or an http or https address (20 s to answer, 64 MiB at most).
        grey: one channel instead of RGB.

    Raises:
        UnreadableImageError: it is missing, damaged, truncated, too large or no image.
    """
    return read_image(_download(image) if is_url(image) else image, grey=grey)


def _download(address: str) -> io.BytesIO:
    content = io.BytesIO()
    try:
        request = urllib.request.Request(address, headers={"User-Agent": f"recnext/{__version__}"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            while chunk := answer.read(_CHUNK):
                content.write(chunk)
                if content.tell() > MAX_BYTES:
                    raise UnreadableImageError(f"larger than {MAX_BYTES // 2**20} MiB")
    except UnreadableImageError:
        raise
    except (OSError, HTTPException, ValueError) as error:  # no connection, no such page, no address at all
        raise UnreadableImageError(f"cannot download: {getattr(error, 'reason', None) or error}") from None
    content.seek(0)
    return content
