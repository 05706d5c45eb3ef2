import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.classification import MulticlassCalibrationError

from recnext.data import Batch, ImagePreparation
from recnext.errors import RecNextError
from recnext.tasks.classification.accuracy import AccuracyMeter, evaluate
from recnext.tasks.classification.data import open_for, preparation_of
from recnext.tasks.classification.draw import draw_confusion
from recnext.tasks.classification.evaluate import evaluate_classifier
from recnext.tasks.classification.evaluation import by_class


def random_case(images=103, classes=7):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, generator=generator)
    return logits, torch.randint(classes, (images,), generator=generator)


def by_hand(logits, labels):
    """The definitions, in NumPy."""
    logits, labels = logits.double().numpy(), labels.numpy()
    order = np.argsort(-logits, axis=1)
    top1 = 100 * np.mean(order[:, 0] == labels)
    top5 = 100 * np.mean((order[:, :5] == labels[:, None]).any(1))
    loss = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels])
    confusion = np.zeros((logits.shape[1],) * 2, dtype=int)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    return top1, top5, loss, confusion


@pytest.mark.parametrize("batch", [1, 10, 103])
def test_numbers_are_those_of_the_definitions_for_any_batch_size(batch):
    logits, labels = random_case()
    meter = AccuracyMeter(7)
    for some_logits, some_labels in zip(logits.split(batch), labels.split(batch), strict=True):
        meter.update(some_logits, some_labels)
    result = meter.compute()
    top1, top5, loss, confusion = by_hand(logits, labels)
    assert result.top1 == pytest.approx(top1, abs=1e-4)
    assert result.top5 == pytest.approx(top5, abs=1e-4)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.confusion.tolist() == confusion.tolist()
    assert result.images == 103


def test_calibration_is_torchmetrics_multiclass_error():
    logits, labels = random_case(images=500)
    meter = AccuracyMeter(7)
    meter.update(logits, labels)
    expected = 100 * MulticlassCalibrationError(7, n_bins=15)(logits.softmax(1), labels)
    assert meter.compute().ece == pytest.approx(expected.item(), rel=1e-5)


def test_the_order_of_batches_does_not_matter():
    logits, labels = random_case()
    results = []
    for order in (range(103), torch.randperm(103, generator=torch.Generator().manual_seed(1)).tolist()):
        meter = AccuracyMeter(7)
        for index in order:
            meter.update(logits[index : index + 1], labels[index : index + 1], positions=torch.tensor([index]))
        results.append(meter.compute())
    assert results[0].loss == results[1].loss
    assert results[0].ece == results[1].ece
    assert results[1].positions.tolist() == list(range(103))
    assert torch.equal(results[1].likeliest, logits.topk(5).indices)


def test_two_classes_have_a_full_top5():
    meter = AccuracyMeter(2)
    meter.update(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 1]))
    result = meter.compute()
    assert (result.top1, result.top5) == (50, 100)


def test_evaluate_normalises_and_names_unreadable_images():
    preparation = ImagePreparation(size=(2, 2), mean=(0.5,) * 3, std=(0.5,) * 3)
    images = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    images[1] = 255

    def forward(x):
        assert x.is_contiguous(memory_format=torch.channels_last)
        brightness = x.mean((1, 2, 3))
        assert brightness.tolist() == [-1, 1]
        return torch.stack((-brightness, brightness), 1)

    options = {"num_classes": 2, "preparation": preparation, "device": torch.device("cpu")}
    meter = evaluate(forward, [Batch(images, torch.tensor([0, 1]))], **options)
    assert meter.compute().top1 == 100
    with pytest.raises(RecNextError, match=r"cannot read a\.png"):
        evaluate(forward, [Batch(images, torch.tensor([0, 1]), ("cannot read a.png",))], **options)


def test_table_of_classes(tmp_path):
    confusion = torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    grid = by_class(confusion, ("cat, black", "=dog", "emu"))
    grid.write(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "class": "cat, black",
        "images": "4",
        "correct": "3",
        "accuracy": "75.0000",
        "predicted_as": "3",
        "confused_with": "'=dog",  # which no spreadsheet runs
        "confusions": "1",
    }
    assert (rows[1]["class"], rows[1]["accuracy"]) == ("'=dog", "100.0000")
    assert (rows[2]["images"], rows[2]["accuracy"], rows[2]["confused_with"]) == ("0", "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("classes", [2, 60])
def test_confusion_picture(tmp_path, classes):
    pytest.importorskip("matplotlib")
    draw_confusion(tmp_path / "a.png", torch.eye(classes, dtype=torch.int64), [f"class {i}" for i in range(classes)])
    with Image.open(tmp_path / "a.png") as image:
        assert min(image.size) > 300


class Brightness(torch.nn.Module):
    """Two classes, dark and light, as a checkpoint of a known class order says: light first."""

    num_classes = 2
    pretrained_cfg = {  # noqa: RUF012
        "input_size": (3, 32, 32),
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "crop_pct": 1.0,
        "label_names": ("light", "dark"),
    }

    def forward(self, x):
        value = x.mean((1, 2, 3))
        return torch.stack((value, -value), 1)


def tree(root, names):
    for name, level in names.items():
        (root / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), (level,) * 3).save(root / name / "a.png")
    return root


def test_labels_go_by_the_checkpoints_class_names(tmp_path):
    model = Brightness()
    data = tree(tmp_path, {"dark": 10, "light": 240})
    images = open_for(model, data, checkpoint="c")
    preparation = preparation_of(model)
    assert preparation.size == (32, 32)
    options = {"preparation": preparation, "device": torch.device("cpu"), "workers": 0}
    assert evaluate_classifier(model, images, **options).top1 == 100
    only = open_for(model, tree(tmp_path / "only", {"light": 230}), checkpoint="c")
    assert evaluate_classifier(model, only, **options).confusion.tolist() == [[1, 0], [0, 0]]


def test_class_mismatches_name_both_sides_and_the_fix(tmp_path):
    model = Brightness()
    with pytest.raises(
        RecNextError, match=r"best knows 2 classes \(light, dark\), .* holds 3 class folders \(a, b, c\)"
    ):
        open_for(model, tree(tmp_path / "three", {"a": 1, "b": 2, "c": 3}), checkpoint="best")
    with pytest.raises(RecNextError, match="does not know: medium; it knows light, dark"):
        open_for(model, tree(tmp_path / "two", {"light": 1, "medium": 2}), checkpoint="best")
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": None}
    assert open_for(model, tmp_path / "two", checkpoint="best").class_names == ("light", "medium")
