"""Sizes of images as users write them, and how many processes load them at most."""

import os

from recnext.errors import RecNextError

MOST_WORKERS = max(64, 4 * (os.cpu_count() or 1))  # that load images: a slip must not start a million of them
SMALLEST_IMAGE = 32  # pixels a side: the networks' stride


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of "N" or "HxW".

    Raises:
        RecNextError: another text, or smaller than 32 pixels.
    """
    sides = text.lower().split("x")
    if not all(side.isdecimal() for side in sides) or len(sides) > 2:
        raise RecNextError(f"image size {text!r}: expected N or HxW in pixels, such as 224 or 256x320")
    height, width = int(sides[0]), int(sides[-1])
    if min(height, width) < SMALLEST_IMAGE:
        raise RecNextError(f"image size {text!r}: the networks take {SMALLEST_IMAGE} pixels or more")
    return height, width
