import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from recnext.tasks.segmentation.metrics import ConfusionMeter


def images(count=5, classes=6):
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        shape = (20 + index, 30 - index)
        labels = torch.randint(0, classes - 1, shape, generator=generator)  # the last class never occurs
        labels[torch.rand(shape, generator=generator) < 0.1] = 255
        noise = torch.randint(0, classes - 1, shape, generator=generator)
        yield torch.where(torch.rand(shape, generator=generator) < 0.6, labels.where(labels != 255, 0), noise), labels


def test_equals_the_definition():
    """Oracle: intersections and unions counted in numpy over all pixels, then torchmetrics' own indices."""
    meter = ConfusionMeter(6)
    for prediction, labels in images():
        meter.update(prediction, labels.to(torch.uint8))
    result = meter.compute()

    predictions = np.concatenate([p.numpy().ravel() for p, _ in images()])
    truths = np.concatenate([t.numpy().ravel() for _, t in images()])
    counted = truths != 255
    predictions, truths = predictions[counted], truths[counted]
    ious = [
        100 * ((predictions == k) & (truths == k)).sum() / ((predictions == k) | (truths == k)).sum() for k in range(5)
    ]
    accuracies = [100 * (predictions[truths == k] == k).mean() for k in range(5)]
    assert result.images == 5
    assert result.iou[:5].tolist() == pytest.approx(ious)
    assert result.iou[5].isnan()
    assert result.accuracy[:5].tolist() == pytest.approx(accuracies)
    assert result.miou == pytest.approx(np.mean(ious))
    assert result.macc == pytest.approx(np.mean(accuracies))
    assert result.aacc == pytest.approx(100 * (predictions == truths).mean())

    jaccard = MulticlassJaccardIndex(6, ignore_index=255)
    accuracy = MulticlassAccuracy(6, average="macro", ignore_index=255)
    for prediction, labels in images():
        jaccard.update(prediction[None], labels[None])
        accuracy.update(prediction[None], labels[None])
    assert result.miou == pytest.approx(100 * jaccard.compute().item(), abs=1e-3)
    assert result.macc == pytest.approx(100 * accuracy.compute().item(), abs=1e-3)
