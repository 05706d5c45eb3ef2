"""Random erasing on the device, a pure function of (seed, epoch, position).

Zhong et al., Random Erasing Data Augmentation, arXiv 1708.04896, with the draws in the order of timm's
`RandomErasing`. An image's rectangle does not depend on the batch it is in, on the worker that loaded it, nor on
what ran before.
"""

import math
import random
from collections.abc import Sequence
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from .augmentation import EraseMode

_AREA = (0.02, 1 / 3)  # share of the image
_LOG_RATIO = (math.log(0.3), math.log(1 / 0.3))  # height over width
_ATTEMPTS = 10
_STREAM = 1  # apart from the transforms' randomness, which has the same key

Box = tuple[int, int, int, int]


def erase(
    images: Tensor,
    *,
    positions: Sequence[int],
    probability: float,
    mode: EraseMode = "pixel",
    seed: int = 0,
    epoch: int = 0,
) -> Tensor:
    """Overwrites a random rectangle of some images, in place.

    Args:
        images: normalised float (N, C, H, W).
        positions: of the images in the epoch, over all processes.
        probability: that an image is touched.
        mode: as in `Augmentation`.
        seed: of the run.
        epoch: from 0.

    Returns:
        `images`.
    """
    for image, position in zip(images, positions, strict=True):
        decision, noise = np.random.SeedSequence((seed, epoch, position, _STREAM)).generate_state(2).tolist()
        box = choose_box(random.Random(decision), image.shape[1], image.shape[2], probability=probability)
        if box is None:
            continue
        top, left, height, width = box
        image[:, top : top + height, left : left + width] = _fill(image, height, width, mode=mode, seed=noise)
    return images


def choose_box(draw: random.Random, height: int, width: int, *, probability: float) -> Optional[Box]:
    """(top, left, height, width) in pixels of what to erase, or None to leave the image.

    Args:
        draw: source of randomness.
        height: of the image.
        width: of the image.
        probability: that there is a box.
    """
    if draw.random() > probability:
        return None
    for _ in range(_ATTEMPTS):
        area = draw.uniform(*_AREA) * height * width
        ratio = math.exp(draw.uniform(*_LOG_RATIO))
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if tall < height and wide < width:
            top = draw.randint(0, height - tall)
            return top, draw.randint(0, width - wide), tall, wide
    return None


def _fill(image: Tensor, height: int, width: int, *, mode: EraseMode, seed: int) -> Tensor:
    shape = (image.shape[0], height, width) if mode == "pixel" else (image.shape[0], 1, 1)
    filled = image.new_zeros(shape)
    if mode == "zero":
        return filled
    return filled.normal_(generator=torch.Generator(image.device).manual_seed(seed))
