"""Batches of images with label maps, and the loaders that make them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from recnext.data import make_loader
from recnext.data.batch import KeyedSample
from recnext.data.sampling import EvaluationBatches, TrainBatches

from .data import MaskFolder
from .transforms import SegmentationPreparation


class TrainingBatch(NamedTuple):
    """`images` uint8 (N, 3, S, S), `labels` uint8 (N, S, S) with 255 where a pixel counts nowhere."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    unreadable: tuple[str, ...]


class EvaluationBatch(NamedTuple):
    """Images uint8 (3, h, w), each resized for the network, and labels uint8 (H, W) as they are on disk."""

    images: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    names: tuple[str, ...]
    unreadable: tuple[str, ...]


def collate_training(samples: Sequence[KeyedSample]) -> TrainingBatch:
    """Stacks what could be read."""
    kept = [sample for sample in samples if sample.image is not None]
    pairs = [(torch.as_tensor(sample.image), torch.as_tensor(sample.label)) for sample in kept]
    nothing = torch.empty(0, dtype=torch.uint8)
    return TrainingBatch(
        torch.stack([image.as_subclass(Tensor) for image, _ in pairs]) if pairs else nothing,
        torch.stack([labels.as_subclass(Tensor) for _, labels in pairs]) if pairs else nothing,
        tuple(sample.name for sample in kept),
        tuple(sample.unreadable for sample in samples if sample.unreadable is not None),
    )


def collate_evaluation(samples: Sequence[KeyedSample]) -> EvaluationBatch:
    """Keeps sizes as they are."""
    kept = [sample for sample in samples if sample.image is not None]
    return EvaluationBatch(
        tuple(torch.as_tensor(sample.image).as_subclass(Tensor) for sample in kept),
        tuple(torch.as_tensor(sample.label).as_subclass(Tensor) for sample in kept),
        tuple(sample.name for sample in kept),
        tuple(sample.unreadable for sample in samples if sample.unreadable is not None),
    )


def training_loader(
    folder: MaskFolder,
    batches: TrainBatches,
    *,
    transform: Callable[..., Any],
    seed: int,
    workers: int,
    pin_memory: bool = False,
) -> DataLoader[TrainingBatch]:
    """Loads crops; a sample that cannot be used is replaced by another, and named."""
    options: dict[str, Any] = {"seed": seed, "workers": workers, "pin_memory": pin_memory}
    return make_loader(folder, batches, transform=transform, pairs=True, collate_fn=collate_training, **options)


def evaluation_loader(
    folder: MaskFolder,
    *,
    preparation: SegmentationPreparation,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> DataLoader[EvaluationBatch]:
    """Loads images one at a time, each once over all processes."""
    batches = EvaluationBatches(len(folder), batch_size=1, rank=rank, world_size=world_size)
    options: dict[str, Any] = {"workers": workers, "pin_memory": pin_memory, "collate_fn": collate_evaluation}
    return make_loader(folder, batches, transform=preparation.evaluation_transform(), pairs=True, **options)
