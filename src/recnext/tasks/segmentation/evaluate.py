"""Runs a segmenter over labelled images, one at a time, whatever their sizes."""

from collections.abc import Callable, Iterable
from typing import Optional

import torch
from torch import Tensor

from recnext.data import normalise
from recnext.data.images import UnreadableImageError

from .batches import EvaluationBatch
from .inference import Forward, segment
from .metrics import ConfusionMeter
from .model import SemanticFPN
from .transforms import SegmentationPreparation


def preparation_of(model: SemanticFPN, *, image_size: Optional[int] = None) -> SegmentationPreparation:
    """How a segmenter wants its images.

    Args:
        model: of `load` or `build`.
        image_size: instead of the one it was trained at.
    """
    config = model.pretrained_cfg
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return SegmentationPreparation(image_size=image_size or model.image_size, mean=mean, std=std)


@torch.inference_mode()
def evaluate(
    forward: Forward,
    batches: Iterable[EvaluationBatch],
    *,
    num_classes: int,
    preparation: SegmentationPreparation,
    device: torch.device,
    precision: Optional[torch.dtype] = None,
    window: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    on_image: Callable[[], None] = lambda: None,
) -> ConfusionMeter:
    """Segments every image and compares at the labels' own resolution.

    Args:
        forward: normalised (1, 3, h, w) to logits; in eval mode.
        batches: from `evaluation_loader`, their data set with the preparation's evaluation transform.
        num_classes: of the logits.
        preparation: holds the mean and std.
        device: where `forward` runs.
        precision: bfloat16 or float16 for autocast; None runs as the weights are.
        window: side of a sliding window; 0 takes whole images, as published.
        should_stop: asked between images; True ends early.
        on_image: called after each image.

    Returns:
        The filled meter; `compute` is left to the caller, as it is collective.

    Raises:
        UnreadableImageError: names the first image or mask that cannot be used.
    """
    meter = ConfusionMeter(num_classes).to(device)
    for batch in batches:
        if batch.unreadable:
            raise UnreadableImageError(batch.unreadable[0])
        if should_stop():
            break
        for image, labels in zip(batch.images, batch.labels, strict=True):
            prediction = segment(
                _autocast(forward, device, precision),
                normalise(image[None], mean=preparation.mean, std=preparation.std, device=device),
                size=(labels.shape[0], labels.shape[1]),
                window=window,
            )
            meter.update(prediction, labels.to(device))
            on_image()
    return meter


def _autocast(forward: Forward, device: torch.device, precision: Optional[torch.dtype]) -> Forward:
    if precision is None:
        return forward

    def low(x: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=precision):
            return forward(x)

    return low
