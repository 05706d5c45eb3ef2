import pytest
import torch

from recnext.tasks.detection.batches import GroupedBatches


@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_are_of_one_orientation_and_hold_each_image_once(world_size):
    wide = torch.arange(50) % 3 > 0
    ranks = [GroupedBatches(wide, batch_size=4, seed=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    steps = list(zip(*(list(batches) for batches in ranks), strict=True))
    assert len(steps) == len(ranks[0]) == 50 // (4 * world_size)
    samples = [key.sample for step in steps for batch in step for key in batch]
    assert len(set(samples)) == len(samples) == len(steps) * 4 * world_size
    mixed = [step for step in steps if len({bool(wide[key.sample]) for batch in step for key in batch}) == 2]
    assert len(mixed) <= 1


def test_a_resumed_epoch_goes_on_and_epochs_differ():
    wide = torch.arange(30) % 2 == 0
    batches = GroupedBatches(wide, batch_size=3)
    whole = list(batches)
    batches.set_position(0, 4)
    assert list(batches) == whole[4:]
    batches.set_position(1)
    assert [key.sample for batch in batches for key in batch] != [key.sample for batch in whole for key in batch]
