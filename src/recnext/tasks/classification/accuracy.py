"""Top-1, top-5, loss, calibration and confusion: the same to the last bit for any number of processes.

What each image gave is kept (some 100 bytes), gathered, put in the order of the data set and only then added up.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from recnext.data import Batch, ImagePreparation, normalise
from recnext.data.images import UnreadableImageError

_BINS = 15  # of the expected calibration error, as is usual (Guo et al., arXiv 1706.04599)
_FACTS = 4  # position, label, loss, confidence; then the likeliest classes


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
        ece: expected calibration error of the likeliest class, 15 bins, per cent.
        positions: int64 (images,), in the data set, rising.
        likeliest: int64 (images, up to 5), classes from the likeliest on, in the order of `positions`.
    """

    top1: float
    top5: float
    loss: float
    images: int
    confusion: Tensor
    images_per_second: float
    ece: float
    positions: Tensor
    likeliest: Tensor

    def numbers(self) -> dict[str, float]:
        """The values of the job's metrics, by their keys."""
        return {"top1": self.top1, "top5": self.top5, "val_loss": self.loss}


class AccuracyMeter:
    """Collects batches of logits; `compute` adds up over all processes when torch.distributed runs.

    Args:
        num_classes: width of the logits, from 2.
    """

    def __init__(self, num_classes: int) -> None:
        from torchmetrics.functional import classification  # the `train` extra: missed before the first image

        self.functions = classification
        self.num_classes = num_classes
        self.top = min(5, num_classes)
        self.known: list[Tensor] = []  # position, label
        self.measured: list[Tensor] = []  # loss, confidence, likeliest classes; left on the device until the end
        self.device = torch.device("cpu")
        self.started = time.perf_counter()
        self.seen = 0

    def update(self, logits: Tensor, labels: Tensor, *, positions: Optional[Tensor] = None) -> None:
        """Adds a batch.

        Args:
            logits: float (N, num_classes).
            labels: int64 (N,).
            positions: int64 (N,), in the data set; by default they count on.
        """
        logits, self.device = logits.detach().float(), logits.device
        if positions is None or not len(positions):
            positions = torch.arange(self.seen, self.seen + len(labels))
        self.known.append(torch.stack((positions.cpu(), labels.cpu()), 1))
        loss = F.cross_entropy(logits, labels.to(logits.device), reduction="none")
        confidence = logits.softmax(1).amax(1)
        likeliest = logits.topk(self.top, dim=1).indices.float()  # whole numbers to 2**24 stay exact
        self.measured.append(torch.cat((loss[:, None], confidence[:, None], likeliest), 1))
        self.seen += len(labels)

    def compute(self) -> Accuracy:
        """The result over everything added, in all processes."""
        seconds = max(time.perf_counter() - self.started, 1e-9)
        facts = torch.empty(0, _FACTS + self.top, dtype=torch.float64)
        if self.known:
            facts = torch.cat((torch.cat(self.known).double(), torch.cat(self.measured).cpu().double()), 1)
        if torch.distributed.is_initialized():
            from torchmetrics.utilities.distributed import gather_all_tensors

            parts = gather_all_tensors(facts.to(self.device))
            facts = torch.cat([part.cpu() for part in parts])
        facts = facts[facts[:, 0].argsort(stable=True)]
        positions, labels = facts[:, 0].long(), facts[:, 1].long()
        likeliest = facts[:, _FACTS:].long()
        right = likeliest == labels[:, None]
        confidence = facts[:, 3].float()
        images = len(facts)
        return Accuracy(
            top1=100 * right[:, 0].sum().item() / max(images, 1),
            top5=100 * right.any(1).sum().item() / max(images, 1),
            loss=facts[:, 2].mean().item(),
            images=images,
            confusion=self.functions.multiclass_confusion_matrix(likeliest[:, 0], labels, self.num_classes),
            images_per_second=self.seen / seconds,
            ece=100 * self.functions.binary_calibration_error(confidence, right[:, 0].long(), n_bins=_BINS).item(),
            positions=positions,
            likeliest=likeliest,
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
    meter = AccuracyMeter(num_classes)
    meter.device = device
    for batch in batches:
        if batch.unreadable:
            raise UnreadableImageError(batch.unreadable[0])
        if should_stop():
            break
        images = normalise(batch.images, mean=preparation.mean, std=preparation.std, device=device)
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            logits = forward(images)
        meter.update(logits, batch.labels, positions=batch.positions)
    return meter
