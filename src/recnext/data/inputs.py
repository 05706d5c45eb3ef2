"""From files, folders, patterns and URLs to images, one after the other, however many there are."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from recnext.errors import RecNextError

_URL = ("http://", "https://")


def is_url(image: str) -> bool:
    """True for http and https addresses."""
    return image.lower().startswith(_URL)


def find_images(inputs: Sequence[str]) -> Iterator[str]:
    """The images that `inputs` stand for, in order; folders are walked in the order of names, hidden parts left out.

    Args:
        inputs: files (of any suffix), folders (searched to any depth for image suffixes), patterns with ``*``, ``?``
            or ``[`` (``**`` for any depth), and http or https addresses.

    Yields:
        Paths and addresses. A file that does not exist is among them, for the reader to report.

    Raises:
        RecNextError: there is nothing at all; before the first image.
    """
    if not inputs:
        raise RecNextError("no images are given: expected files, folders, patterns or addresses")
    found = _all_images(inputs)
    first = next(found, None)
    if first is None:
        raise RecNextError(
            f"no images in {', '.join(inputs)}: expected files that end in {' '.join(IMG_EXTENSIONS)} "
            "(a file named by itself may end in anything)"
        )
    missing = [name for name in inputs if not is_url(name) and not glob.has_magic(name) and not os.path.exists(name)]
    if len(missing) == len(inputs):
        raise RecNextError(f"there is no file or folder {', '.join(missing)}")
    return _chain(first, found)


def count_images(inputs: Sequence[str]) -> int:
    """How many images `find_images` finds."""
    return sum(1 for _ in _all_images(inputs))


def _chain(first: str, others: Iterator[str]) -> Iterator[str]:
    yield first
    yield from others


def _all_images(inputs: Sequence[str]) -> Iterator[str]:
    for name in inputs:
        if is_url(name):
            yield name
        elif os.path.isdir(name):
            yield from _walk(name)
        elif glob.has_magic(name) and not os.path.exists(name):
            for match in sorted(glob.iglob(name, recursive=True)):
                if os.path.isfile(match):
                    yield match
        else:
            yield name


def _walk(folder: str) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in IMG_EXTENSIONS and not name.startswith("."):
                yield os.path.join(root, name)
