"""Top-1, top-5, loss and the confusion matrix, equal for any number of processes and any batch size."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from recnext.data import Batch, ImagePreparation, normalise
from recnext.data.images import UnreadableImageError


@dataclass(frozen=True)
class Accuracy:
    """What a network reached.

    Args:
        top1: per cent.
        top5: per cent; with fewer than five classes the top-`num_classes`, that is 100.
        loss: mean cross entropy (without smoothing).
        images: how many were evaluated.
        confusion: int64 (classes, classes), rows the truth, columns the prediction.
        images_per_second: of one process, loading included.
    """

    top1: float
    top5: float
    loss: float
    images: int
    confusion: Tensor
    images_per_second: float


class AccuracyMeter(nn.Module):
    """Collects batches of logits; `compute` sums over all processes when torch.distributed runs.

    Args:
        num_classes: width of the logits, from 2.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.top1 = MulticlassAccuracy(num_classes, average="micro")
        self.top5 = MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes))
        self.loss = MeanMetric(nan_strategy="disable")
        self.confusion = MulticlassConfusionMatrix(num_classes)
        self.started = time.perf_counter()
        self.seen = 0

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            logits: float (N, num_classes).
            labels: int64 (N,).
        """
        logits = logits.detach().float()
        self.top1.update(logits, labels)
        self.top5.update(logits, labels)
        self.confusion.update(logits, labels)
        self.loss.update(F.cross_entropy(logits, labels, reduction="none"))
        self.seen += len(labels)

    def compute(self) -> Accuracy:
        """The result over everything added, in all processes."""
        confusion = self.confusion.compute().cpu()
        seconds = max(time.perf_counter() - self.started, 1e-9)
        return Accuracy(
            top1=100 * self.top1.compute().item(),
            top5=100 * self.top5.compute().item(),
            loss=self.loss.compute().item(),
            images=int(confusion.sum()),
            confusion=confusion,
            images_per_second=self.seen / seconds,
        )


@torch.inference_mode()
def evaluate(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    *,
    num_classes: int,
    preparation: ImagePreparation,
    device: torch.device,
    precision: Optional[torch.dtype] = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> AccuracyMeter:
    """Runs a network over labelled batches.

    Args:
        forward: normalised float32 (N, 3, H, W), channels_last, to logits (N, num_classes); in eval mode.
        batches: from `recnext.data.make_loader` over `EvaluationBatches`.
        num_classes: width of the logits.
        preparation: holds the mean and std.
        device: where `forward` runs.
        precision: bfloat16 or float16 for autocast; None runs as the weights are.
        should_stop: asked between batches; True ends early.

    Returns:
        The filled meter; `compute` is left to the caller, as it is collective.

    Raises:
        UnreadableImageError: names the first image that could not be read.
    """
    meter = AccuracyMeter(num_classes).to(device)
    for batch in batches:
        if batch.unreadable:
            raise UnreadableImageError(batch.unreadable[0])
        if should_stop():
            break
        images = normalise(batch.images, mean=preparation.mean, std=preparation.std, device=device)
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            logits = forward(images)
        meter.update(logits, batch.labels.to(device))
    return meter
