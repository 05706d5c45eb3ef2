"""timm's random erasing on the device, as a function of (seed, epoch, position).

An image's rectangle does not depend on the batch it is in, on the worker that loaded it, nor on what ran before.
"""

import random
from collections.abc import Sequence

import numpy as np
import torch
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from .augmentation import EraseMode

_MODES = {"pixel": "pixel", "color": "rand", "zero": "const"}  # ours: timm's
_STREAM = 1  # of the randomness; the transforms draw from another with the same key


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
    eraser = RandomErasing(probability, mode=_MODES[mode], device=images.device)
    before = random.getstate()
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        for image, position in zip(images, positions, strict=True):
            box, noise = np.random.SeedSequence((seed, epoch, position, _STREAM)).generate_state(2).tolist()
            random.seed(box)
            torch.default_generator.manual_seed(noise)
            if images.is_cuda:
                torch.cuda.manual_seed(noise)
            eraser(image)
    random.setstate(before)
    return images
