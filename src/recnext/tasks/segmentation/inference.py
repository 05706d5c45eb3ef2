"""From an image to a class for every pixel: the whole image at once, as published, or by a sliding window."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_CHUNK = 2**25  # logits enlarged at once: 150 maps of a large photograph would take gigabytes

Forward = Callable[[Tensor], Tensor]


def segment(
    forward: Forward,
    image: Tensor,
    *,
    size: tuple[int, int],
    window: int = 0,
    stride: int = 0,
) -> Tensor:
    """The class of every pixel.

    The logits are enlarged bilinearly to the input, then resized to the image's own size, then compared: the
    published order (MMSegmentation's whole-image inference).

    Args:
        forward: normalised (N, 3, h, w) to logits (N, classes, h / s, w / s).
        image: normalised (1, 3, H, W), at the size to segment it at.
        size: height and width of the result.
        window: side of a sliding window, whose logits are averaged where windows overlap; 0 takes the whole image.
        stride: step of the window; 0 is two thirds of it.

    Returns:
        int64 (height, width).
    """
    sides = (image.shape[2], image.shape[3])
    if window == 0 or max(sides) <= window:
        return enlarged_argmax(forward(image).float(), (sides, size))
    return enlarged_argmax(slide(forward, image, window=window, stride=stride or max(window * 2 // 3, 1)), (size,))


def slide(forward: Forward, image: Tensor, *, window: int, stride: int) -> Tensor:
    """Logits at the image's size, each place the mean over the windows that cover it.

    Args:
        forward: as in `segment`.
        image: normalised (1, 3, H, W).
        window: side of the windows; an image that is smaller in one direction is taken whole in it.
        stride: step between windows; the last ones are moved back to end at the border.

    Returns:
        float32 (1, classes, H, W).
    """
    height, width = image.shape[2:]
    total, count = torch.zeros(()), torch.zeros((1, 1, height, width), device=image.device)
    for top in _starts(height, window, stride):
        for left in _starts(width, window, stride):
            place = (..., slice(top, top + window), slice(left, left + window))
            part = image[place]
            logits = F.interpolate(forward(part).float(), size=part.shape[2:], mode="bilinear", align_corners=False)
            if total.ndim == 0:
                total = logits.new_zeros((1, logits.shape[1], height, width))
            total[place] += logits
            count[place] += 1
    return total / count


def _starts(length: int, window: int, stride: int) -> list[int]:
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def enlarged_argmax(logits: Tensor, sizes: tuple[tuple[int, int], ...]) -> Tensor:
    """The class of the largest logit after resizing bilinearly to each size in turn, a few classes at a time.

    Args:
        logits: float32 (1, classes, h, w).
        sizes: heights and widths, in order.

    Returns:
        int64 of the last size.
    """
    best, classes = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    chunk = max(_CHUNK // max(height * width for height, width in sizes), 1)
    for first in range(0, logits.shape[1], chunk):
        maps = logits[:, first : first + chunk]
        for size in sizes:
            if maps.shape[2:] != size:
                maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        values, indices = maps[0].max(0)
        if first == 0:
            best, classes = values, indices
        else:
            larger = values > best  # of equals the first class wins, as in argmax
            best = torch.where(larger, values, best)
            classes = torch.where(larger, indices + first, classes)
    return classes
