import random

import numpy as np
import pytest
import torch
from timm.data.distributed_sampler import RepeatAugSampler

from recnext.data import make_loader
from recnext.data.sampling import EvaluationBatches, TrainBatches, epoch_seed, seed_everything


class Noise:
    """Draws from all three generators."""

    def __len__(self):
        return 37

    def __getitem__(self, index):
        values = [random.randrange(256), np.random.randint(256), int(torch.randint(256, ()))]
        return torch.tensor(values, dtype=torch.uint8).view(3, 1, 1), index


def collected(batches, workers=0):
    return [(batch.images, batch.labels) for batch in make_loader(Noise(), batches, seed=3, workers=workers)]


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


def test_an_epoch_is_the_same_for_any_number_of_workers_and_another_for_another_epoch():
    batches = TrainBatches(37, batch_size=4, seed=3)
    batches.set_position(2)
    first = collected(batches)
    assert same(first, collected(batches, workers=2))
    batches.set_position(3)
    assert not same(first, collected(batches))


def test_an_epoch_continued_is_the_end_of_the_whole_one():
    batches = TrainBatches(37, batch_size=4, seed=3)
    batches.set_position(1)
    whole = collected(batches)
    batches.set_position(1, start=5)
    assert same(whole[5:], collected(batches))
    assert len(batches) == len(whole) == 9


def test_images_are_drawn_once_and_two_processes_make_the_same_global_batches():
    alone = TrainBatches(37, batch_size=6, seed=1)
    pair = [TrainBatches(37, batch_size=3, seed=1, rank=rank, world_size=2) for rank in range(2)]
    assert len(alone) == len(pair[0]) == len(pair[1]) == 6
    for whole, left, right in zip(alone, *pair, strict=True):
        assert whole == left + right
    samples = [key.sample for batch in alone for key in batch]
    assert len(set(samples)) == len(samples) == 36


def test_a_batch_larger_than_the_images_is_lowered():
    batches = TrainBatches(5, batch_size=64, world_size=2)
    assert (batches.batch_size, len(batches)) == (2, 1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_each_image_once(world_size):
    shares = [EvaluationBatches(10, batch_size=4, rank=rank, world_size=world_size) for rank in range(world_size)]
    samples = [key.sample for share in shares for batch in share for key in batch]
    assert sorted(samples) == list(range(10))
    assert all(len(share) == len(list(share)) for share in shares)


def test_seed_everything_seeds_all_generators():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_everything(1, 2, 3)
    first = draw()
    seed_everything(1, 2, 3)
    assert draw() == first
    seed_everything(1, 3, 2)
    assert all(a != b for a, b in zip(first, draw(), strict=True))


@pytest.mark.parametrize(("length", "world_size"), [(1000, 1), (1000, 3), (256, 2), (255, 2), (37, 1), (5, 2), (2, 8)])
def test_repeated_augmentation_is_timms(length, world_size):
    for rank in range(world_size):
        ours = TrainBatches(length, batch_size=1, seed=4, rank=rank, world_size=world_size, repeats=3)
        ours.set_position(6)
        theirs = RepeatAugSampler(range(length), num_replicas=world_size, rank=rank)
        theirs.set_epoch(epoch_seed(4, 6))
        assert [key.sample for batch in ours for key in batch] == list(theirs)
        if length >= 256:  # the published rule
            assert len(ours) == length // 256 * 256 // world_size
        else:  # it gives none; never an empty epoch
            assert len(ours) > 0


def test_repeats_come_three_times_and_go_on_exactly():
    batches = TrainBatches(512, batch_size=8, repeats=3)
    keys = [key for batch in batches for key in batch]
    assert [key.position for key in keys] == list(range(512))
    samples = [key.sample for key in keys]
    assert all(len(set(samples[first : first + 3])) == 1 for first in range(0, 510, 3))
    assert len(set(samples)) == 171
    batches.set_position(0, start=60)
    assert [key for batch in batches for key in batch] == keys[480:]


def test_batches_carry_names_and_positions():
    batches = TrainBatches(37, batch_size=4, seed=3)
    batches.set_position(2, start=3)
    for batch in make_loader(Noise(), batches, workers=2):
        assert batch.epoch == 2
        assert batch.names == tuple(map(str, batch.labels.tolist()))
    assert batch.positions.tolist() == [32, 33, 34, 35]
