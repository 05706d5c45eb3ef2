"""Order and randomness of samples as pure functions of (seed, epoch, position).

Nothing depends on what ran before, so a run that stopped in mid-epoch goes on exactly as if it had not, with
any number of workers; and position is counted over all processes, so the transforms do not depend on their number.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

_REPEAT_ROUND = 256  # of the published repeated augmentation


class SampleKey(NamedTuple):
    """Which sample, and the key of its randomness."""

    sample: int
    epoch: int
    position: int


def seed_everything(*key: int) -> None:
    """Seeds Python's, NumPy's and torch's (CPU, current CUDA device) generators from `key`, integers from 0.

    Cheap enough for every sample; `torch.manual_seed` is not, as it formats a stack trace for each absent backend.
    """
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(int(words[2]))


class TrainBatches(Sampler[list[SampleKey]]):
    """One process's batches of keys: a fresh shuffle an epoch, every batch full on every process.

    A last batch that cannot be filled is dropped (the next epoch drops others). When even the first cannot be
    filled, the batch is lowered to what the images allow.

    With `repeats` above 1 this is repeated augmentation (Berman et al., MultiGrain, arXiv 1902.05509) as timm's
    `RepeatAugSampler` has it: every index of the shuffle comes `repeats` times in a row, the processes take turns,
    and each stops after ``length // 256 * 256 / world_size`` samples (``length / world_size``, rounded up, below 256
    images).

    Args:
        length: images in the data set, at least two a process.
        batch_size: a process.
        seed: of the shuffle.
        rank: this process.
        world_size: number of processes.
        repeats: times that an image is drawn in a row.
    """

    def __init__(
        self, length: int, *, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1, repeats: int = 1
    ) -> None:
        super().__init__()
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.repeats = repeats
        self.epoch = 0
        self.start = 0
        if repeats == 1:
            self.samples = length // world_size
        elif length >= _REPEAT_ROUND:
            self.samples = length // _REPEAT_ROUND * _REPEAT_ROUND // world_size
        else:
            self.samples = -(-length // world_size)
        self.batch_size = min(batch_size, max(self.samples, 1))

    def set_position(self, epoch: int, start: int = 0) -> None:
        """The next iteration gives `epoch`'s batches from number `start` on."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self.samples // self.batch_size

    def __iter__(self) -> Iterator[list[SampleKey]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()
        for step in range(self.start, len(self)):
            at = self.positions(step)
            yield [SampleKey(order[place // self.repeats % self.length], self.epoch, place) for place in at]

    def positions(self, step: int) -> range:
        """Of a batch of this process in the epoch: one block, or with repeats every `world_size`-th."""
        if self.repeats == 1:
            first = (step * self.world_size + self.rank) * self.batch_size
            return range(first, first + self.batch_size)
        first = step * self.batch_size * self.world_size + self.rank
        return range(first, first + self.batch_size * self.world_size, self.world_size)


def epoch_seed(seed: int, epoch: int) -> int:
    """Of an epoch's shuffle."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


class EvaluationBatches(Sampler[list[SampleKey]]):
    """One process's share of the images, in order, each image once over all processes (no padding).

    The processes take turns by whole batches, so that a batch is the same whichever process runs it.
    """

    def __init__(self, length: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        super().__init__()
        self.length = length
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    @property
    def firsts(self) -> range:
        """Where this process's batches begin."""
        return range(self.rank * self.batch_size, self.length, self.world_size * self.batch_size)

    def __len__(self) -> int:
        return len(self.firsts)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for first in self.firsts:
            positions = range(first, min(first + self.batch_size, self.length))
            yield [SampleKey(position, 0, position) for position in positions]
