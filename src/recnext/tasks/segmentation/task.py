"""Segmentation as the training loop sees it."""

from collections.abc import Callable, Iterable
from typing import Optional

import torch
from torch import Tensor

from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.data import normalise
from recnext.engine.task import Metrics

from .batches import EvaluationBatch, TrainingBatch
from .evaluate import evaluate
from .losses import segmentation_loss
from .model import SemanticFPN
from .settings import SegmentSettings
from .transforms import SegmentationPreparation


class SegmentationTask:
    """Cross entropy over pixels; mIoU, mAcc and aAcc on whole images.

    Args:
        model: trained in place.
        settings: of the run.
        preparation: of the images.
        class_names: in the order of the logits.
    """

    def __init__(
        self,
        model: SemanticFPN,
        settings: SegmentSettings,
        *,
        preparation: SegmentationPreparation,
        class_names: tuple[str, ...],
    ) -> None:
        self.model: torch.nn.Module = model
        self.settings = settings
        self.preparation = preparation
        self.class_names = class_names

    def loss(self, model: torch.nn.Module, batch: TrainingBatch, *, device: torch.device) -> Tensor:
        """Mean loss of the batch."""
        images = normalise(
            batch.images,
            mean=self.preparation.mean,
            std=self.preparation.std,
            device=device,
            channels_last=self.settings.channels_last,
        )
        labels = batch.labels.to(device, non_blocking=True).long()
        return segmentation_loss(model(images), labels, normalisation=self.settings.loss)

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
            num_classes=len(self.class_names),
            preparation=self.preparation,
            device=device,
            precision=precision,
            should_stop=should_stop,
        )
        return lambda: meter.compute().summary()

    def metadata(self, epoch: int) -> CheckpointMetadata:
        """The header of the weights saved after `epoch`."""
        size = self.preparation.image_size
        return CheckpointMetadata(
            model=self.settings.model,
            num_classes=len(self.class_names),
            model_args=self.settings.model_args,
            class_names=self.class_names,
            input_size=(3, size, size),
            mean=self.preparation.mean,
            std=self.preparation.std,
            crop_pct=1.0,
            interpolation="bilinear",
            epoch=epoch,
        )
