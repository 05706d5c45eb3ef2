"""Mean IoU and its kin from one confusion matrix over all pixels of all images and processes."""

import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from .losses import IGNORE


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """What a segmenter reached, in per cent.

    Attributes:
        confusion: int64 (classes, classes), rows the truth, columns the prediction, in pixels.
        images: how many were evaluated.
        seconds: from the first image to the last, in this process.
    """

    confusion: Tensor
    images: int
    seconds: float

    @property
    def iou(self) -> Tensor:
        """float64 (classes,): pixels in both truth and prediction over pixels in either; NaN for absent classes."""
        right = self.confusion.diagonal().double()
        return 100 * right / (self.confusion.sum(0) + self.confusion.sum(1) - right)

    @property
    def accuracy(self) -> Tensor:
        """float64 (classes,): share of a class's pixels that are right; NaN where the truth has none."""
        return 100 * self.confusion.diagonal().double() / self.confusion.sum(1)

    @property
    def miou(self) -> float:
        """Mean of `iou` over the classes that occur."""
        return self.iou.nanmean().item()

    @property
    def macc(self) -> float:
        """Mean of `accuracy` over the classes that occur."""
        return self.accuracy.nanmean().item()

    @property
    def aacc(self) -> float:
        """Share of all pixels that are right."""
        return (100 * self.confusion.diagonal().sum().double() / self.confusion.sum()).item()

    def summary(self) -> dict[str, Any]:
        """`miou`, `macc` and `aacc`."""
        return {"miou": self.miou, "macc": self.macc, "aacc": self.aacc}


class ConfusionMeter(nn.Module):
    """Adds up images; `compute` sums over all processes when torch.distributed runs.

    Args:
        num_classes: classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.confusion = MulticlassConfusionMatrix(num_classes, ignore_index=IGNORE, validate_args=False)
        self.images = SumMetric(nan_strategy="disable")
        self.started = time.perf_counter()

    def update(self, prediction: Tensor, labels: Tensor) -> None:
        """Adds an image.

        Args:
            prediction: int64 (H, W), classes.
            labels: integers (H, W), 255 where a pixel counts nowhere.
        """
        self.confusion.update(prediction[None], labels[None].long())
        self.images.update(1)

    def compute(self) -> SegmentationResult:
        """The result over everything added, in all processes."""
        confusion = self.confusion.compute().cpu()
        images = int(self.images.compute().item())
        return SegmentationResult(confusion, images, time.perf_counter() - self.started)
