"""What the loader hands over."""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """`images` uint8 (N, 3, H, W), `labels` int64 (N,), where they come from, and what could not be read.

    In training each unreadable image was replaced by another; in evaluation it is missing from the tensors.
    `names` are those of the N images (files, for folders); `positions`, int64 (N,), count over all processes from
    the start of `epoch`.
    """

    images: Tensor
    labels: Tensor
    unreadable: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    positions: Tensor = torch.empty(0, dtype=torch.int64)
    epoch: int = 0
