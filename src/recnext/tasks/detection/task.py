"""Detection as the training loop sees it."""

from collections.abc import Callable, Iterable
from typing import Optional

import torch
from torch import Tensor, nn

from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.engine.task import Metrics

from .batches import DetectionBatch
from .checkpoint import describe
from .coco import CocoFile
from .evaluate import evaluate, to_float
from .model import Detector

_LEARNT_FROM = ("boxes", "labels", "masks")


class DetectionTask:
    """The sum of the detector's losses; COCO's average precision of boxes and masks.

    Args:
        model: trained in place.
        file: annotations of the images to evaluate on.
        training_sizes: shorter sides that one is drawn from for each training image.
        evaluation_size: shorter side in evaluation.
    """

    def __init__(
        self,
        model: Detector,
        *,
        file: CocoFile,
        training_sizes: tuple[int, ...],
        evaluation_size: int,
    ) -> None:
        self.model: nn.Module = model
        self.detector = model
        self.transform = model.transform
        self.masks = model.config.masks
        self.file = file
        self.training_sizes = training_sizes
        self.evaluation_size = evaluation_size

    def loss(self, model: nn.Module, batch: DetectionBatch, *, device: torch.device) -> Tensor:
        """The sum of the losses of a batch."""
        self.transform.min_size = self.training_sizes
        images = [to_float(image, device) for image in batch.images]
        targets = [
            {key: target[key].to(device, non_blocking=True) for key in _LEARNT_FROM if key in target}
            for target in batch.targets
        ]
        losses: dict[str, Tensor] = model(images, targets)
        return torch.stack([loss.float() for loss in losses.values()]).sum()

    def evaluate(
        self,
        model: nn.Module,
        batches: Iterable[DetectionBatch],
        *,
        device: torch.device,
        precision: Optional[torch.dtype],
        should_stop: Callable[[], bool],
    ) -> Callable[[], Metrics]:
        """``box_ap``, ``box_ap50``, ``box_ap75`` and the same of masks."""
        assert isinstance(model, Detector)
        model.transform.min_size = (self.evaluation_size,)
        meter = evaluate(
            model,
            batches,
            file=self.file,
            masks=self.masks,
            device=device,
            precision=precision,
            should_stop=should_stop,
        )
        return lambda: meter.compute().summary()

    def metadata(self, epoch: int) -> CheckpointMetadata:
        """The header of the weights saved after `epoch`."""
        return describe(self.detector, epoch=epoch)
