"""Classification as the training loop sees it."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Optional

import torch
from timm.task import TokenDistillationTask
from torch import Tensor, nn

from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.data import Batch, ImagePreparation, prepare_batch
from recnext.engine.task import Metrics

from .accuracy import evaluate
from .mixing import Mixing
from .settings import TrainSettings


class ClassificationTask:
    """Cross entropy on labels or on mixed ones, perhaps with a teacher's; top-1, top-5 and loss.

    Args:
        model: (N, 3, H, W) to logits.
        settings: of the run.
        class_names: in the order of the logits.
        preparation: of the images.
        mixing: of the batch, and its loss.
        distiller: gives the loss in place of `mixing`'s where there is a teacher.
        precision: of the teacher.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainSettings,
        *,
        class_names: tuple[str, ...],
        preparation: ImagePreparation,
        mixing: Mixing,
        distiller: Optional[TokenDistillationTask] = None,
        precision: Optional[torch.dtype] = None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.class_names = class_names
        self.preparation = preparation
        self.mixing = mixing
        self.distiller = distiller
        self.precision = precision

    def loss(self, model: nn.Module, batch: Batch, *, device: torch.device) -> Tensor:
        """Mean loss of the batch."""
        images = prepare_batch(
            batch,
            preparation=self.preparation,
            device=device,
            augmentation=self.settings.augmentation,
            seed=self.settings.seed,
            channels_last=self.settings.channels_last,
        )
        images, targets = self.mixing(images, batch.labels.to(device, non_blocking=True))
        if self.distiller is None:
            loss: Tensor = self.mixing.criterion(model(images).float(), targets)
            return loss
        self.distiller.trainable_module = model
        with nullcontext() if self.precision is None else torch.autocast(device.type, dtype=self.precision):
            loss = self.distiller(images, targets)["loss"]
        return loss.float()

    def evaluate(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        *,
        device: torch.device,
        precision: Optional[torch.dtype],
        should_stop: Callable[[], bool],
    ) -> Callable[[], Metrics]:
        """``val_loss``, ``top1`` and ``top5``."""
        meter = evaluate(
            model,
            batches,
            num_classes=len(self.class_names),
            preparation=self.preparation,
            device=device,
            precision=precision,
            should_stop=should_stop,
        )
        return lambda: meter.compute().numbers()

    def metadata(self, epoch: int) -> CheckpointMetadata:
        """The header of the weights saved after `epoch`."""
        preparation = self.preparation
        return CheckpointMetadata(
            model=self.settings.model,
            num_classes=len(self.class_names),
            model_args=self.settings.model_args,
            class_names=self.class_names,
            input_size=(3, *preparation.size),
            mean=preparation.mean,
            std=preparation.std,
            crop_pct=preparation.crop_pct,
            interpolation=preparation.interpolation,
            epoch=epoch,
        )
