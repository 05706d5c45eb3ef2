"""What the loader hands over."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor
from torch.utils.data import default_collate

from .sampling import SampleKey


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


class KeyedSample(NamedTuple):
    """A decoded image, or why there is none."""

    image: Optional[Tensor]
    label: Any
    unreadable: Optional[str]
    name: str
    key: SampleKey


def collate(samples: Sequence[KeyedSample]) -> Batch:
    """Stacks what could be read."""
    kept = [sample for sample in samples if sample.image is not None]
    return Batch(
        _stacked([sample.image for sample in kept if sample.image is not None]),
        torch.tensor([sample.label for sample in kept], dtype=torch.int64),
        tuple(sample.unreadable for sample in samples if sample.unreadable is not None),
        tuple(sample.name for sample in kept),
        torch.tensor([sample.key.position for sample in kept], dtype=torch.int64),
        samples[0].key.epoch,
    )


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """(N, 3, H, W) in the images' own memory format: those from Pillow have their channels last."""
    if not images:
        return torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    if images[0].is_contiguous():
        return default_collate(list(images))  # in a worker straight into shared memory
    return default_collate([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
