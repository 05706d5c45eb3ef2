"""Every kind of data, from files made here in the layout that the data set's authors publish."""

import hashlib
import io
import json
import logging
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, Flowers102

from recnext.data import ImagePreparation, make_loader, open_dataset, open_split
from recnext.data.imagenet import labels_of, wnids
from recnext.data.sampling import EvaluationBatches, TrainBatches
from recnext.errors import RecNextError

PREPARATION = ImagePreparation(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)


def jpeg(level: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (40, 36), (level, level, 0)).save(content, "jpeg")
    return content.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def labels(source) -> list[int]:
    return [label for batch in loaded(source, EvaluationBatches(len(source), batch_size=4)) for label in batch[1]]


def loaded(source, batches, **options):
    return list(make_loader(source, batches, transform=PREPARATION.evaluation_transform(), **options))


def test_folders_are_the_default_and_a_kind_is_named(tmp_path):
    for split in ("train", "val"):
        for name in ("a", "b"):
            write(tmp_path / split / name / "0.jpg", jpeg(9))
    splits = open_dataset(str(tmp_path))
    assert (splits.class_names, len(splits.train), len(splits.val)) == (("a", "b"), 2, 2)
    with pytest.raises(RecNextError, match=r"no kind of data 'cifar' .*cifar10:ROOT.*wds:ROOT"):
        open_dataset(f"cifar:{tmp_path}")
    with pytest.raises(RecNextError, match="names no place: expected wds:ROOT"):
        open_dataset("wds:")


def write_cifar(root, source, monkeypatch, names_key, label_key):
    """Files as the archive holds them, with checksums of their own."""
    folder = root / source.base_folder
    for attribute in ("train_list", "test_list"):
        listed = []
        for number, (name, _) in enumerate(getattr(source, attribute)):
            data = np.full((4, 3072), 10 * number, dtype=np.uint8)
            content = pickle.dumps({"data": data, label_key: [number, 0, 1, 2]})
            write(folder / name, content)
            listed.append([name, hashlib.md5(content).hexdigest()])
        monkeypatch.setattr(source, attribute, listed)
    content = pickle.dumps({names_key: [f"class {n}" for n in range(10 if source is CIFAR10 else 100)]})
    write(folder / source.meta["filename"], content)
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": hashlib.md5(content).hexdigest()})


def test_cifar(tmp_path, monkeypatch):
    write_cifar(tmp_path, CIFAR10, monkeypatch, "label_names", "labels")
    splits = open_dataset(f"cifar10:{tmp_path}")
    assert (len(splits.train), len(splits.val), len(splits.class_names)) == (20, 4, 10)
    assert labels(splits.val) == [0, 0, 1, 2]
    assert splits.train[4][0].size == (32, 32)
    with pytest.raises(RecNextError, match=r"cifar-100-python is missing .*unpack cifar-100-python.tar.gz"):
        open_dataset(f"cifar100:{tmp_path}")
    with monkeypatch.context() as patch:
        write_cifar(tmp_path, CIFAR100, patch, "fine_label_names", "fine_labels")
        assert len(open_dataset(f"cifar100:{tmp_path}").class_names) == 100


def test_flowers_train_on_train_and_val_and_evaluate_on_test(tmp_path, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    folder = tmp_path / "flowers-102"
    for number in range(1, 8):
        write(folder / "jpg" / f"image_{number:05d}.jpg", jpeg(number))
    scipy_io.savemat(folder / "imagelabels.mat", {"labels": [77, 1, 102, 5, 6, 7, 8]})
    scipy_io.savemat(folder / "setid.mat", {"trnid": [1, 2], "valid": [3, 7], "tstid": [4, 5, 6]})
    monkeypatch.setattr(
        Flowers102,
        "_file_dict",
        {
            key: (name, hashlib.md5((folder / name).read_bytes()).hexdigest() if name.endswith("mat") else digest)
            for key, (name, digest) in Flowers102._file_dict.items()
        },
    )
    splits = open_dataset(f"flowers102:{tmp_path}")
    assert labels(splits.train) == [76, 0, 101, 7]
    assert labels(splits.val) == [4, 5, 6]
    assert splits.class_names[0] == "pink primrose"
    with pytest.raises(RecNextError, match=r"flowers-102 is missing or not whole: expected jpg/"):
        open_dataset(f"flowers102:{tmp_path / 'no'}")


@pytest.mark.parametrize("folder", ["train_val2019", "2019"])
def test_inaturalist_is_split_by_its_json(tmp_path, folder):
    categories = [{"id": 0, "name": "Aves x"}, {"id": 2, "name": "Fungi y"}]
    for split, files in (("train", ["Aves/0/a.jpg", "Fungi/2/b.jpg", "Fungi/2/c.jpg"]), ("val", ["Fungi/2/d.jpg"])):
        for file in files:
            write(tmp_path / folder / file, jpeg(3))
        content = {
            "categories": categories,
            "images": [{"id": i + 5, "file_name": f"train_val2019/{file}"} for i, file in enumerate(files)],
            "annotations": [
                {"image_id": i + 5, "category_id": int(file.split("/")[1])} for i, file in enumerate(files)
            ],
        }
        (tmp_path / f"{split}2019.json").write_text(json.dumps(content))
    splits = open_dataset(f"inat2019:{tmp_path}")
    assert splits.class_names == ("Aves x", "Fungi y")
    assert labels(splits.train) == [0, 1, 1]
    assert labels(splits.val) == [1]
    (tmp_path / "val2019.json").write_text("[1]")
    with pytest.raises(RecNextError, match="not the competition's annotation file"):
        open_dataset(f"inat2019:{tmp_path}")
    with pytest.raises(RecNextError, match=r"train2018\.json is missing"):
        open_dataset(f"inat2018:{tmp_path}")


def imagenet(root, names, split="val"):
    for name in names:
        write(root / split / name / "x.JPEG", jpeg(5))
    return root


def test_imagenet_layout_is_checked(tmp_path):
    assert len(wnids()) == 1000
    flat = tmp_path / "flat"
    write(flat / "val" / "ILSVRC2012_val_00000001.JPEG", jpeg(1))
    for spec in (f"imagenet:{flat}", str(flat)):
        imagenet(flat, wnids()[:3], split="train")
        with pytest.raises(RecNextError, match=r"without class folders .*ImageNet\(root, split='val'\)|without n0"):
            open_dataset(spec)
    with pytest.raises(RecNextError, match=r"holds 3 of ImageNet's 1000 classes, without n01491361"):
        open_split(f"imagenet:{imagenet(tmp_path / 'few', wnids()[:3])}", split="val")
    whole = imagenet(tmp_path / "whole", wnids())
    source = open_split(f"imagenet:{whole}", split="val")
    assert source.labels == list(range(1000))
    with pytest.raises(RecNextError, match="has no folder 'train'"):
        open_split(f"imagenet:{whole}", split="train")


def test_imagenet_labels_never_follow_another_order(tmp_path):
    assert labels_of(tmp_path, ["n01443537", "n01440764"]) == {"n01443537": 1, "n01440764": 0}
    assert labels_of(tmp_path, ["10", "9", "999"]) == {"10": 10, "9": 9, "999": 999}  # ImageNet-V2's names
    for names, message in (
        (["tench", "goldfish"], "are not the order of the labels|not the order of the labels"),
        ([str(number) for number in range(1, 1001)], "the development kit's numbers from 1 are another order"),
        (["n01440764", "n99999999"], "not among ImageNet-1k's 1000: n99999999"),
    ):
        with pytest.raises(RecNextError, match=message):
            labels_of(tmp_path, names)


def write_class_tars(root):
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for label, name in enumerate(("cat", "dog")):
            with tarfile.open(root / split / f"{name}.tar", "w") as archive:
                for number in range(3):
                    add(archive, f"{number}.jpg", jpeg(100 * label + number))


@pytest.mark.parametrize("workers", [0, 2])
def test_tar_archives_are_read_by_number_in_any_process(tmp_path, workers):
    write_class_tars(tmp_path)
    splits = open_dataset(f"tar:{tmp_path}")
    assert splits.class_names == ("cat", "dog")
    splits.val[0]  # leaves an archive open in this process
    batches = list(loaded(splits.val, EvaluationBatches(6, batch_size=2), workers=workers))
    assert [label for batch in batches for label in batch.labels.tolist()] == [0, 0, 0, 1, 1, 1]
    assert batches[0].names[1].endswith("cat.tar:1.jpg")
    red = torch.cat([batch.images[:, 0, 0, 0] for batch in batches])
    assert (red.int() - torch.tensor([0, 1, 2, 100, 101, 102])).abs().max() <= 2
    with pytest.raises(RecNextError, match=r"neither train\.tar nor train/\*\.tar"):
        open_dataset(f"tar:{tmp_path / 'val'}")


def test_damaged_images_in_archives_are_named(tmp_path):
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}.tar", "w") as archive:
            add(archive, "cat/0.jpg", jpeg(1))
            add(archive, "cat/1.jpg", jpeg(1)[:300])
            add(archive, "dog/0.jpg", jpeg(2))
    splits = open_dataset(f"tar:{tmp_path}")
    (batch,) = loaded(splits.val, EvaluationBatches(3, batch_size=3))
    assert batch.labels.tolist() == [0, 1]
    assert "val.tar:cat/1.jpg: " in batch.unreadable[0]
    (batch,) = loaded(splits.train, TrainBatches(3, batch_size=3))
    assert len(batch.labels) == 3
    assert "train.tar:cat/1.jpg: " in batch.unreadable[0]


def write_parquet(root, counts):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    for split, files in counts.items():
        for part, images in enumerate(files):
            rows = {
                "image": [{"bytes": content, "path": f"{part}-{n}.jpg"} for n, content in enumerate(images)],
                "label": [n % 2 for n in range(len(images))],
            }
            path = root / "data" / f"{split}-{part:05d}-of-{len(files):05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))


@pytest.fixture
def hf_offline(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("kind", ["hfds", "hfids"])
def test_parquet_files(tmp_path, kind, hf_offline):
    root = tmp_path / "set"
    damaged = [jpeg(1), jpeg(2)[:300], jpeg(3)]
    write_parquet(root, {"train": [[jpeg(1)] * 4, [jpeg(2)] * 3], "validation": [damaged]})
    splits = open_dataset(f"{kind}:{root}")
    assert (len(splits.train), len(splits.val), splits.class_names) == (7, 3, ("cat", "dog"))
    (batch,) = loaded(splits.val, EvaluationBatches(3, batch_size=3))
    assert batch.labels.tolist() == [0, 0]
    assert "0-1.jpg" in batch.unreadable[0]
    batches = list(loaded(splits.train, TrainBatches(7, batch_size=3), workers=1))
    assert [len(batch.labels) for batch in batches] == [3, 3]
    with pytest.raises(RecNextError, match=r"cannot (open|read)"):
        open_dataset(f"{kind}:{tmp_path / 'none'}")


@pytest.mark.parametrize("kind", ["hfds", "hfids"])
def test_hidden_labels_are_left_out_or_named(tmp_path, kind, hf_offline, caplog):
    """The hub's test sets hide labels as -1; a row may lack its label or its image, too."""
    datasets = pytest.importorskip("datasets")
    root = tmp_path / "set"
    write_parquet(root, {"train": [[jpeg(1)] * 2]})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [{"bytes": jpeg(n), "path": f"{n}.jpg"} for n in range(4)], "label": [0, 1, -1, None]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "data" / "test-00000-of-00001.parquet")
    with caplog.at_level(logging.WARNING, "recnext"):
        source = open_split(f"{kind}:{root}", split="val")
        (batch,) = loaded(source, EvaluationBatches(len(source), batch_size=4))
    assert batch.labels.tolist() == [0, 1]
    if kind == "hfds":
        assert "2 images without a label left out" in caplog.text
        rows["label"] = [-1] * 4
        datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "data" / "test-00000-of-00001.parquet")
        with pytest.raises(RecNextError, match="hides the labels of its split 'test'"):
            open_split(f"{kind}:{root}", split="val")
    else:
        assert [text.partition(": ")[2].rpartition(": ")[2] for text in batch.unreadable] == ["expected 0 to 1"] * 2


def test_splits_that_name_the_same_classes_in_another_order_are_one(tmp_path, hf_offline):
    datasets = pytest.importorskip("datasets")
    root = tmp_path / "set" / "data"
    root.mkdir(parents=True)
    for split, names in (("train", ["cat", "dog"]), ("validation", ["dog", "cat"])):
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        rows = {"image": [{"bytes": jpeg(1), "path": "a"}] * 2, "label": [0, 1]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(root / f"{split}-00000-of-00001.parquet")
    splits = open_dataset(f"hfids:{tmp_path / 'set'}")
    assert splits.class_names == splits.val.class_names == ("cat", "dog")
    assert labels(splits.val) == [1, 0]
