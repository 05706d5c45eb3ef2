"""Batches of images of one orientation, and the loaders that make them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from recnext.data import make_loader
from recnext.data.batch import KeyedSample
from recnext.data.sampling import EvaluationBatches, SampleKey, TrainBatches, epoch_seed

from .data import CocoFolder


class DetectionBatch(NamedTuple):
    """Images uint8 (3, H_i, W_i) and their targets, as `CocoFolder` gives them, with plain tensors."""

    images: tuple[Tensor, ...]
    targets: tuple[dict[str, Any], ...]
    names: tuple[str, ...]
    unreadable: tuple[str, ...]


class GroupedBatches(TrainBatches):
    """`TrainBatches` whose batches hold wide or tall images only, so that little of a batch is padding.

    All processes get the same orientation at a step. What is left of both fills the last batches.

    Args:
        wide: bool (N,), the orientation of each image.
        batch_size: a process.
        seed: of the shuffle.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, wide: Tensor, *, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(len(wide), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
        self.wide = wide

    def __iter__(self) -> Iterator[list[SampleKey]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator)
        together = self.batch_size * self.world_size
        whole, rest = [], []
        for group in (order[self.wide[order]], order[~self.wide[order]]):
            cut = len(group) // together * together
            whole.append(group[:cut])
            rest.append(group[cut:])
        mixed = torch.cat(rest)
        mixed = mixed[: len(mixed) // together * together]
        steps = torch.cat([*whole, mixed]).reshape(-1, self.world_size, self.batch_size)
        steps = steps[torch.randperm(len(steps), generator=generator)]
        for step in range(self.start, len(self)):
            positions = self.positions(step)
            yield [
                SampleKey(sample, self.epoch, position)
                for sample, position in zip(steps[step, self.rank].tolist(), positions, strict=True)
            ]


def collate(samples: Sequence[KeyedSample]) -> DetectionBatch:
    """Keeps what could be read, sizes as they are."""
    kept = [sample for sample in samples if sample.image is not None]
    return DetectionBatch(
        tuple(torch.as_tensor(sample.image).as_subclass(Tensor) for sample in kept),
        tuple(
            {key: value.as_subclass(Tensor) if isinstance(value, Tensor) else value for key, value in label.items()}
            for label in (sample.label for sample in kept)
        ),
        tuple(sample.name for sample in kept),
        tuple(sample.unreadable for sample in samples if sample.unreadable is not None),
    )


def training_loader(
    folder: CocoFolder,
    batches: GroupedBatches,
    *,
    transform: Callable[..., Any],
    seed: int,
    workers: int,
    pin_memory: bool = False,
) -> DataLoader[DetectionBatch]:
    """Loads training batches; an image that cannot be read is replaced by another, and named."""
    options: dict[str, Any] = {"seed": seed, "workers": workers, "pin_memory": pin_memory}
    return make_loader(folder, batches, transform=transform, pairs=True, collate_fn=collate, **options)


def evaluation_loader(
    folder: CocoFolder,
    *,
    batch_size: int = 1,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> DataLoader[DetectionBatch]:
    """Loads every image once over all processes; a batch is the same whichever process runs it."""
    batches = EvaluationBatches(len(folder), batch_size=batch_size, rank=rank, world_size=world_size)
    return make_loader(folder, batches, workers=workers, pin_memory=pin_memory, collate_fn=collate)
