"""From a data set to batches: keyed randomness, unreadable images as values, worker processes that end cleanly."""

import os
import random
import signal
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Protocol, Union

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .batch import Batch
from .images import UnreadableImageError
from .sampling import EvaluationBatches, SampleKey, TrainBatches, seed_everything

_REPLACEMENTS = 10  # tries to find a readable image in place of an unreadable one


class SampleSource(Protocol):
    """A map-style data set of (uint8 (3, H, W) tensor, label) pairs; a method `name` of an index may name samples."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Any, int]: ...


class _Sample(NamedTuple):
    image: Optional[Tensor]
    label: int
    unreadable: Optional[str]
    name: str
    key: SampleKey


class _KeyedDataset(Dataset[_Sample]):
    """Looks samples up by key. Unreadable images become values, which cross process borders unharmed."""

    def __init__(self, dataset: SampleSource, seed: int, replace: bool) -> None:
        self.dataset = dataset
        self.seed = seed
        self.replace = replace

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> _Sample:
        seed_everything(self.seed, key.epoch, key.position)
        index, unreadable = key.sample, None
        for _ in range(_REPLACEMENTS if self.replace else 1):
            try:
                image, label = self.dataset[index]
                return _Sample(image, label, unreadable, self.name(index), key)
            except UnreadableImageError as error:
                unreadable = unreadable or str(error)
                index = random.randrange(len(self))
        return _Sample(None, -1, unreadable, self.name(index), key)

    def name(self, index: int) -> str:
        name_of = getattr(self.dataset, "name", None)
        return str(index) if name_of is None else name_of(index)


def _collate(samples: Sequence[_Sample]) -> Batch:
    kept = [sample for sample in samples if sample.image is not None]
    return Batch(
        torch.stack([sample.image for sample in kept if sample.image is not None])
        if kept
        else torch.empty(0, 3, 1, 1, dtype=torch.uint8),
        torch.tensor([sample.label for sample in kept], dtype=torch.int64),
        tuple(sample.unreadable for sample in samples if sample.unreadable is not None),
        tuple(sample.name for sample in kept),
        torch.tensor([sample.key.position for sample in kept], dtype=torch.int64),
        samples[0].key.epoch,
    )


def _start_worker(_: int) -> None:
    """A terminal's Ctrl-C, or a signal to the process group, is for the main process alone to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    warnings.filterwarnings("ignore", module="PIL")  # oddities of EXIF data, one line an image


def make_loader(
    dataset: SampleSource,
    batches: Union[TrainBatches, EvaluationBatches],
    *,
    seed: int = 0,
    workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Loads `batches` of a data set.

    Args:
        dataset: of images and labels; may raise `UnreadableImageError`: in training another image takes the place.
        batches: `TrainBatches` or `EvaluationBatches` over the data set's length.
        seed: of the transforms' randomness.
        workers: processes; 0 loads in this one.
        pin_memory: for faster copies to a GPU.
    """
    keyed = _KeyedDataset(dataset, seed, replace=isinstance(batches, TrainBatches))
    return DataLoader(
        keyed,  # type: ignore[arg-type]
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )
