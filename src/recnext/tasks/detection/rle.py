"""COCO's run-length encoding of masks: lengths of runs down the columns, absent pixels first.

faster-coco-eval writes it; it is read here, checked before a mask takes memory, and ten times as fast.
"""

from collections.abc import Mapping
from typing import Any, Union

import numpy as np

from recnext.errors import MissingExtraError, RecNextError

_LONGEST = 2**32  # of a run
_MOST_DIGITS = 8  # of a compressed length


def mask_tools() -> Any:
    """faster-coco-eval's mask functions.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise MissingExtraError("faster-coco-eval", "detection", "COCO's masks and evaluation") from None
    return mask


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """Masks as the ``segmentation`` of COCO's annotations and results: compressed run lengths.

    Args:
        masks: bool or uint8 (N, H, W).

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
    """
    encoded = mask_tools().encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return [{"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()} for rle in encoded]


def run_lengths(counts: Union[list[int], str]) -> np.ndarray:
    """The lengths of the runs of an encoding, uncompressed or compressed.

    COCO's compression writes each length, from the fourth on less the one two before, five bits a character, the lowest
    first: characters from "0" on, 32 more where another follows, and the last one's bit of value 16 is the sign.

    Args:
        counts: lengths, or the compressed text.

    Returns:
        int64 (N,).

    Raises:
        RecNextError: they are no lengths.
    """
    if isinstance(counts, list):
        if not all(type(count) is int and 0 <= count < _LONGEST for count in counts):
            raise RecNextError("RLE: counts are whole numbers from 0")
        return np.array(counts, dtype=np.int64)
    digits = np.frombuffer(counts.encode("latin-1", "replace"), dtype=np.uint8).astype(np.int64) - ord("0")
    last = (digits & 32) == 0
    ends = np.flatnonzero(last)
    if ((digits < 0) | (digits > 63)).any() or (len(digits) and not last[-1]):
        raise RecNextError("RLE: counts are no compressed text of COCO's")
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    sizes = ends - starts + 1
    if (sizes > _MOST_DIGITS).any():
        raise RecNextError("RLE: counts are no compressed text of COCO's")
    places = np.arange(len(digits)) - np.repeat(starts, sizes)
    lengths = np.add.reduceat((digits & 31) << (5 * places), starts) if len(ends) else ends
    lengths = lengths - np.where(digits[ends] & 16, np.int64(1) << (5 * sizes), 0)
    lengths[1::2] = lengths[1::2].cumsum()
    lengths[2::2] = lengths[2::2].cumsum()
    if (lengths < 0).any():
        raise RecNextError("RLE: counts are whole numbers from 0")
    return lengths


def decode_rle(rle: Mapping[str, Any]) -> np.ndarray:
    """The bool (H, W) mask of an encoding, uncompressed or compressed.

    Raises:
        RecNextError: the runs do not cover the mask exactly.
    """
    height, width = rle["size"]
    counts = run_lengths(rle["counts"])
    if int(counts.sum()) != height * width:
        raise RecNextError(f"RLE: counts add up to {int(counts.sum())}; expected {height}x{width} = {height * width}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(height, width, order="F")
