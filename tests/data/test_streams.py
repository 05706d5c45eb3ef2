"""Tar shards as streams: every image once, exact resume, damaged parts named."""

import io
import json
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from recnext.data import Augmentation, ImagePreparation, make_loader, open_dataset
from recnext.data.sampling import EvaluationBatches, TrainBatches
from recnext.data.tars import write_index
from recnext.errors import RecNextError

PREPARATION = ImagePreparation(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)
SHARDS, PER_SHARD = 5, 7


def image(number):
    content = io.BytesIO()
    pixels = np.random.RandomState(number).randint(0, 255, (34, 34, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "jpeg")
    return content.getvalue()


def write_shards(root, split, shards=SHARDS, damaged=()):
    root.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with tarfile.open(root / f"{split}-{shard:04d}.tar", "w") as archive:
            for place in range(PER_SHARD):
                number = shard * PER_SHARD + place
                parts = {"jpg": image(number)[: 100 if number in damaged else None], "cls": str(number % 3).encode()}
                for suffix, content in parts.items():
                    entry = tarfile.TarInfo(f"{number:05d}.{suffix}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, "train")
    write_shards(folder, "val", damaged=(3,))
    write_index(folder, class_names=("a", "b", "c"))
    return folder


@pytest.fixture
def splits(root):
    return open_dataset(f"wds:{root}")


def epoch(source, *, start=0, workers=0, seed=1, number=2, **options):
    batches = TrainBatches(len(source), batch_size=3, seed=seed, **options)
    batches.set_position(number, start)
    transform = PREPARATION.training_transform(Augmentation())
    return list(make_loader(source, batches, transform=transform, seed=seed, workers=workers))


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a.images, b.images) and a.names == b.names and torch.equal(a.positions, b.positions)
        for a, b in zip(left, right, strict=True)
    )


def keys(batches):
    return [name.rpartition(":")[2] for batch in batches for name in batch.names]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_be_repeated_and_continued_anywhere(splits, workers):
    whole = epoch(splits.train, workers=workers)
    assert len(whole) == 11
    assert same(whole, epoch(splits.train, workers=workers))
    for start in (4, 9):
        assert same(whole[start:], epoch(splits.train, start=start, workers=workers))
    assert keys(whole) != keys(epoch(splits.train, workers=workers, number=3))
    assert keys(whole) != sorted(keys(whole))


def test_one_reader_gives_each_image_once_an_epoch(splits):
    counts = Counter(keys(epoch(splits.train)))
    assert len(counts) == 33
    assert set(counts.values()) == {1}


def test_ranks_share_the_shards_and_keep_equal_steps(splits):
    parts = [epoch(splits.train, rank=rank, world_size=2) for rank in range(2)]
    assert [len(part) for part in parts] == [5, 5]
    assert not set(keys(parts[0])) & set(keys(parts[1]))
    positions = [position for part in parts for batch in part for position in batch.positions.tolist()]
    assert sorted(positions) == list(range(30))


def test_repeats_follow_one_another(splits):
    names = keys(epoch(splits.train, repeats=3))
    assert all(len(set(names[first : first + 3])) == 1 for first in range(0, len(names) - 3, 3))


@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (2, 0), (2, 2), (8, 0)])
def test_evaluation_gives_each_image_once_over_all_processes(splits, world_size, workers):
    batches = [
        batch
        for rank in range(world_size)
        for batch in make_loader(
            splits.val, EvaluationBatches(len(splits.val), batch_size=4, rank=rank, world_size=world_size),
            transform=PREPARATION.evaluation_transform(), workers=workers,
        )
    ]  # fmt: skip
    assert sorted(keys(batches)) == [f"{number:05d}" for number in range(35) if number != 3]
    (message,) = [text for batch in batches for text in batch.unreadable]
    assert "val-0000.tar:00003: " in message


def test_training_replaces_what_is_damaged_and_names_it(tmp_path):
    write_shards(tmp_path, "train", shards=2, damaged=(4,))
    write_shards(tmp_path, "val", shards=1)
    write_index(tmp_path)
    with (tmp_path / "train-0001.tar").open("r+b") as file:
        file.truncate(12 * 1024)  # in the middle of an image
    source = open_dataset(f"wds:{tmp_path}").train
    assert source.class_names == ("0", "1", "2")
    batches = epoch(source)
    assert all(len(batch.images) == 3 for batch in batches)
    messages = "; ".join(text for batch in batches for text in batch.unreadable)
    assert "train-0000.tar:00004: " in messages
    assert "train-0001.tar: the shard ends here" in messages


def test_what_an_index_lacks_is_said(root, tmp_path):
    write_shards(tmp_path, "train", shards=1)
    with pytest.raises(RecNextError, match=r"has no _info\.json.*recnext data index"):
        open_dataset(f"wds:{tmp_path}")
    assert write_index(tmp_path) == {"train": (1, 7)}
    with pytest.raises(RecNextError, match="lists no split val or validation"):
        open_dataset(f"wds:{tmp_path}")
    with pytest.raises(RecNextError, match="labels up to 2, but 2 class names"):
        write_index(tmp_path, class_names=("a", "b"))
    info = json.loads((root / "_info.json").read_text())
    assert info["splits"]["validation"]["shard_lengths"] == [7] * 5
    with pytest.raises(RecNextError, match="holds no shards"):
        write_index(tmp_path / "none")
