"""Workers that are spawned, as on macOS and Windows: every source can be sent to one and gives it the same batches."""

import io
import multiprocessing
import tarfile
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from recnext.data import Augmentation, ImagePreparation, make_loader, open_dataset
from recnext.data.sampling import TrainBatches
from recnext.data.tars import write_index
from recnext.tasks.segmentation.batches import training_loader
from recnext.tasks.segmentation.data import open_mask_folders
from recnext.tasks.segmentation.transforms import SegmentationPreparation

PREPARATION = ImagePreparation(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)


def png(number):
    content = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The same eight images as folders, archives, parquet files and shards."""
    root = tmp_path_factory.mktemp("kinds")
    (root / "w").mkdir()
    for split in ("train", "val"):
        with tarfile.open(root / "w" / f"{split}-0.tar", "w") as shard:
            for number in range(8):
                path = root / "D" / split / "ab"[number % 2] / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(number))
                for name, content in ((f"{number}.png", png(number)), (f"{number}.cls", str(number % 2).encode())):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    shard.addfile(entry, io.BytesIO(content))
        with tarfile.open(root / f"{split}.tar", "w") as archive:
            archive.add(root / "D" / split, ".")
    write_index(root / "w", class_names=("a", "b"))
    return root


@pytest.fixture(scope="module")
def spawned():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def first_batch(source):
    transform = PREPARATION.training_transform(Augmentation())
    return next(iter(make_loader(source, TrainBatches(8, batch_size=4, seed=1), transform=transform, seed=1)))


def first_crops(folder):
    preparation = SegmentationPreparation(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    options = {"transform": preparation.training_transform(), "seed": 1, "workers": 0}
    return next(iter(training_loader(folder, TrainBatches(2, batch_size=2, seed=1), **options)))


@pytest.mark.parametrize("kind", ["D", "tar", "wds", "hfds", "hfids"])
def test_every_kind_of_data_is_the_same_in_a_spawned_process(root, spawned, kind, monkeypatch, tmp_path):
    places = {"D": f"{root}/D", "tar": f"tar:{root}", "wds": f"wds:{root}/w"}
    if kind in ("hfds", "hfids"):
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
        rows = {"image": [{"bytes": png(n), "path": f"{n}.png"} for n in range(8)], "label": [n % 2 for n in range(8)]}
        (tmp_path / "data").mkdir()
        for split in ("train", "validation"):
            path = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
            datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    source = open_dataset(places.get(kind, f"{kind}:{tmp_path}")).train
    here, there = first_batch(source), spawned.submit(first_batch, source).result()
    assert torch.equal(here.images, there.images)
    assert (here.labels.tolist(), here.names) == (there.labels.tolist(), there.names)


def test_masks_are_the_same_in_a_spawned_process(spawned, tmp_path):
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for number in range(2):
            (tmp_path / split / "images" / f"{number}.png").write_bytes(png(number))
            mask = np.random.default_rng(number).integers(0, 2, (40, 36), dtype=np.uint8)
            Image.fromarray(mask).save(tmp_path / split / "masks" / f"{number}.png")
    folder = open_mask_folders(tmp_path).train
    here, there = first_crops(folder), spawned.submit(first_crops, folder).result()
    assert torch.equal(here.images, there.images)
    assert torch.equal(here.labels, there.labels)


def test_a_loader_whose_workers_are_spawned(root):
    source = open_dataset(f"tar:{root}").train
    transform = PREPARATION.training_transform(Augmentation())
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        batches = list(
            make_loader(source, TrainBatches(8, batch_size=4, seed=1), transform=transform, seed=1, workers=1)
        )
    finally:
        multiprocessing.set_start_method(method, force=True)
    assert len(batches) == 2
    assert torch.equal(batches[0].images, first_batch(source).images)
