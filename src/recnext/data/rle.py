"""COCO's run-length encoding of masks, uncompressed: lengths of runs down the columns, absent pixels first."""

from typing import Any

import numpy as np

from recnext.errors import RecNextError


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """A mask as a COCO annotation's ``segmentation``.

    Args:
        mask: bool (H, W).

    Returns:
        ``{"size": [H, W], "counts": [...]}``; counts are alternately pixels outside and inside, columns first.
    """
    pixels = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]])).tolist()
    if pixels.size and pixels[0]:
        counts.insert(0, 0)
    return {"size": list(mask.shape), "counts": counts}


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """The bool (H, W) mask of an uncompressed encoding.

    Raises:
        RecNextError: the runs do not cover the mask exactly.
    """
    height, width = rle["size"]
    counts = np.asarray(rle["counts"], dtype=np.int64)
    if (counts < 0).any() or int(counts.sum()) != height * width:
        raise RecNextError(f"RLE: counts add up to {int(counts.sum())}; expected {height}x{width} = {height * width}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(height, width, order="F")
