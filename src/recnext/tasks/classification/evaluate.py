"""A classifier, from any checkpoint, on labelled images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recnext.data import Batch, ImagePreparation, make_loader
from recnext.data.sampling import EvaluationBatches

from .accuracy import Accuracy, evaluate


def evaluate_classifier(
    forward: Callable[[Tensor], Tensor],
    images: Any,
    *,
    preparation: ImagePreparation,
    device: torch.device,
    batch_size: int = 64,
    workers: int = 2,
    share: tuple[int, int] = (0, 1),
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> Accuracy:
    """Accuracy on labelled images, over all processes: every one returns the complete result.

    Args:
        forward: normalised float32 (N, 3, H, W), channels_last, to logits (N, classes).
        images: from `open_for`, or any data set of `make_loader` with `class_names` in the order of the logits.
        preparation: of the images.
        device: where `forward` runs.
        batch_size: images at once.
        workers: processes that load images.
        share: the number of this process, from 0, and how many there are.
        on_batch: called with each batch, for progress.

    Raises:
        UnreadableImageError: names the first image that could not be read.
    """
    batches = EvaluationBatches(len(images), batch_size=batch_size, rank=share[0], world_size=share[1])
    options: dict[str, Any] = {"workers": workers, "pin_memory": device.type == "cuda"}
    loader = make_loader(images, batches, transform=preparation.evaluation_transform(), **options)

    def watched() -> Any:
        for batch in loader:
            yield batch
            on_batch(batch)

    classes = len(images.class_names)
    meter = evaluate(forward, watched(), num_classes=classes, preparation=preparation, device=device)
    return meter.compute()


def with_mirror(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The mean of the logits of an image and of its mirror image: test-time augmentation at twice the cost."""
    return lambda images: (forward(images) + forward(images.flip(3))) / 2
