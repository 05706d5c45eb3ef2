"""Segmentation as the training loop sees it."""

from collections.abc import Callable, Iterable
from typing import Optional

import torch
from torch import Tensor

from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.data import normalise
from recnext.data.images import UnreadableImageError
from recnext.engine.task import Metrics

from .batches import EvaluationBatch, TrainingBatch
from .evaluate import evaluate
from .losses import Normalisation, segmentation_loss
from .model import SemanticFPN
from .transforms import SegmentationPreparation


class SegmentationTask:
    """Cross entropy over pixels; mIoU, mAcc and aAcc on whole images.

    Args:
        model: trained in place.
        preparation: of the images.
        metadata: of the weights saved after an epoch.
        loss_normalisation: as in `segmentation_loss`.
        channels_last: memory format of the images.
    """

    monitor = "miou"

    def __init__(
        self,
        model: SemanticFPN,
        *,
        preparation: SegmentationPreparation,
        metadata: Callable[[int], CheckpointMetadata],
        loss_normalisation: Normalisation = "valid",
        channels_last: bool = True,
    ) -> None:
        self.model: torch.nn.Module = model
        self.num_classes = model.num_classes
        self.preparation = preparation
        self.metadata = metadata
        self.loss_normalisation = loss_normalisation
        self.channels_last = channels_last

    def loss(self, model: torch.nn.Module, batch: TrainingBatch, *, device: torch.device) -> Tensor:
        """Mean loss of the batch.

        Raises:
            UnreadableImageError: not one sample of the batch can be used.
        """
        if not batch.names:
            raise UnreadableImageError(batch.unreadable[0])
        images = normalise(
            batch.images,
            mean=self.preparation.mean,
            std=self.preparation.std,
            device=device,
            channels_last=self.channels_last,
        )
        labels = batch.labels.to(device, non_blocking=True).long()
        return segmentation_loss(model(images), labels, normalisation=self.loss_normalisation)

    def evaluate(
        self,
        model: torch.nn.Module,
        batches: Iterable[EvaluationBatch],
        *,
        device: torch.device,
        precision: Optional[torch.dtype],
        should_stop: Callable[[], bool],
    ) -> Callable[[], Metrics]:
        """``miou``, ``macc`` and ``aacc``."""
        meter = evaluate(
            model,
            batches,
            num_classes=self.num_classes,
            preparation=self.preparation,
            device=device,
            precision=precision,
            should_stop=should_stop,
        )
        return lambda: meter.compute().summary()
