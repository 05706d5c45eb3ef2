"""Labels go by the names of classes, wherever the images are and in whatever order they come."""

import io
import logging
import tarfile
import unicodedata

import pytest
import torch
from PIL import Image
from torch import nn

import recnext
from recnext.errors import RecNextError
from recnext.tasks.classification.data import open_for
from recnext.tasks.classification.teacher import load_teacher

NUMBERS = ("1", "10", "2")  # as strings sort


class Network(nn.Module):
    """Knows the classes it is given, by name or not."""

    def __init__(self, names, *, named=True):
        super().__init__()
        self.num_classes = len(names)
        self.pretrained_cfg = {"label_names": list(names)} if named else {}


def folders(root, names):
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / f"{name}.png")
    return root


def archive(root, names):
    with tarfile.open(root / "val.tar", "w") as tar:
        tar.add(folders(root / "N", names), ".")
    return f"tar:{root}"


def hub(root, names):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "png")
    rows = {"image": [{"bytes": content.getvalue(), "path": f"{name}.png"} for name in names]}
    rows["label"] = list(range(len(names)))
    (root / "h" / "data").mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "h/data/validation-00000-of-00001.parquet")
    return str(root / "h")


def labels(images):
    names = [images.name(index) for index in range(len(images))]
    return {name: images[index][1] for name, index in zip(names, range(len(names)), strict=True)}


@pytest.mark.parametrize("kind", ["folders", "tar", "hfds"])
def test_every_kind_goes_by_the_names_in_the_checkpoint(tmp_path, kind, monkeypatch):
    known = ("10", "1", "2")
    if kind == "folders":
        data = str(folders(tmp_path / "val", NUMBERS))
    elif kind == "tar":
        data = archive(tmp_path, NUMBERS)
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        data = f"hfds:{hub(tmp_path, ('2', '1', '10'))}"
    images = open_for(Network(known), data, checkpoint="c")
    assert images.class_names == known
    found = {
        name.rpartition("/")[2].rpartition("(")[2].partition(".")[0]: label for name, label in labels(images).items()
    }
    assert found == {"10": 0, "1": 1, "2": 2}


@pytest.mark.parametrize("kind", ["folders", "tar"])
def test_without_names_the_order_is_timms_and_a_line_says_so(tmp_path, kind, caplog):
    data = str(folders(tmp_path / "val", NUMBERS)) if kind == "folders" else archive(tmp_path, NUMBERS)
    with caplog.at_level(logging.WARNING, "recnext"):
        images = open_for(Network(NUMBERS, named=False), data, checkpoint="old.pth")
    assert images.class_names == ("1", "2", "10")
    assert [images[index][1] for index in range(3)] == [0, 2, 1]
    assert (
        "old.pth does not name its classes: labels are taken in timm's order, 1, 2, 10; in torchvision's" in caplog.text
    )


def test_nothing_is_said_where_all_sort_alike(tmp_path, caplog):
    open_for(Network(("a", "b"), named=False), str(folders(tmp_path, ("a", "b"))), checkpoint="c")
    assert not caplog.text


def test_accents_are_the_same_in_either_form(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    folders(tmp_path / "a", (decomposed, "tea"))
    folders(tmp_path / "b", (composed, "tea"))
    for root in (tmp_path / "a", tmp_path / "b"):
        for known in ((composed, "tea"), (decomposed, "tea")):
            assert sorted(labels(open_for(Network(known), str(root), checkpoint="c")).values()) == [0, 1]


def test_classes_may_be_called_train_val_and_test(tmp_path):
    names = ("test", "train", "val")
    images = open_for(Network(names), str(folders(tmp_path, names)), checkpoint="c")
    assert (images.root, len(images)) == (tmp_path, 3)
    assert len(open_for(Network(names, named=False), str(tmp_path), checkpoint="c")) == 3
    with pytest.raises(RecNextError, match="knows 2 classes"):
        open_for(Network(("a", "b")), str(tmp_path), checkpoint="c")


def test_a_teacher_without_names_is_refused_where_classes_have_two_orders(tmp_path):
    path = str(tmp_path / "teacher.pth")
    torch.save(recnext.load("test_recnext_m", num_classes=3).state_dict(), path)
    assert load_teacher("test_recnext_m", checkpoint=path, class_names=("a", "b", "c")).num_classes == 3
    with pytest.raises(RecNextError, match="does not name its classes, and timm sorts 1, 10, 2 otherwise"):
        load_teacher("test_recnext_m", checkpoint=path, class_names=NUMBERS)
