"""Classification as the engine sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Union

from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from recnext.checkpoints.saving import describe
from recnext.data import DataSplits, ImagePreparation, make_loader, open_dataset
from recnext.data.sampling import EvaluationBatches, TrainBatches
from recnext.data.transforms import SMALL_IMAGE
from recnext.engine.accelerator import autocast_dtype
from recnext.engine.job import Metric
from recnext.errors import RecNextError

from .data import preparation_of
from .mixing import Mixing
from .model import build
from .settings import TrainSettings
from .task import ClassificationTask
from .teacher import load_teacher, make_distiller

METRICS = (
    Metric("top1", "top-1"),
    Metric("top5", "top-5"),
    Metric("val_loss", "validation loss", unit="nats", higher=False),
)


@dataclass(frozen=True)
class ClassificationJob:
    """Trains a classifier on class folders, on a known data set, or on any two data sets of images."""

    name: str = "classification"
    settings: type[TrainSettings] = TrainSettings
    metrics: tuple[Metric, ...] = METRICS

    def open(self, settings: TrainSettings, data: Union[str, Path, DataSplits]) -> DataSplits:
        """Class folders, ``kind:place`` as `recnext.data.open_dataset` takes it, or data that is open already."""
        return data if isinstance(data, DataSplits) else open_dataset(str(data))

    def build(self, settings: TrainSettings, splits: DataSplits, *, weights: bool) -> nn.Module:
        """The network; see `build`."""
        return build(settings, num_classes=len(splits.class_names), weights=weights)

    def resolve(self, settings: TrainSettings, model: nn.Module) -> TrainSettings:
        """With the constructor arguments that a checkpoint brought."""
        return replace(settings, model_args=describe(model).model_args)

    def task(
        self, settings: TrainSettings, model: nn.Module, splits: DataSplits, accelerator: Accelerator
    ) -> ClassificationTask:
        """Cross entropy, with mixing and a teacher where they are wanted."""
        names = splits.class_names
        mixing, distiller = Mixing(settings, num_classes=len(names)), None
        if settings.teacher is not None:
            teacher = load_teacher(settings.teacher, checkpoint=settings.teacher_checkpoint, class_names=names)
            distiller = make_distiller(model, teacher, mixing.criterion, settings, device=accelerator.device)
        return ClassificationTask(
            model,
            settings,
            class_names=names,
            preparation=_preparation(settings, model),
            mixing=mixing,
            distiller=distiller,
            precision=autocast_dtype(accelerator),
        )

    def loaders(
        self, settings: TrainSettings, model: nn.Module, splits: DataSplits, accelerator: Accelerator
    ) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Augmented images, and the held-out ones as they are evaluated."""
        preparation, size = _preparation(settings, model), settings.batch_size
        place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
        batches = TrainBatches(
            len(splits.train), batch_size=size, seed=settings.seed, repeats=settings.repeats, **place
        )
        if (settings.mixup or settings.cutmix) and batches.batch_size % 2:
            raise RecNextError(
                f"{batches.length} images allow a batch of {batches.batch_size} in each process, and mixup and cutmix "
                f"pair images: give --batch-size {batches.batch_size - 1}, or --mixup 0 --cutmix 0"
            )
        options: dict[str, Any] = {"seed": settings.seed, "workers": settings.workers}
        options["pin_memory"] = accelerator.device.type == "cuda"
        held_out = EvaluationBatches(len(splits.val), batch_size=size, **place)
        training, evaluation = preparation.training_transform(settings.augmentation), preparation.evaluation_transform()
        return (
            make_loader(splits.train, batches, transform=training, **options),
            make_loader(splits.val, held_out, transform=evaluation, **options),
        )

    def head(self, model: nn.Module) -> nn.Module:
        """The classifier."""
        classifier: nn.Module = model.get_classifier()  # type: ignore[operator]
        return classifier

    def facts(self, settings: TrainSettings, model: nn.Module, splits: DataSplits) -> Mapping[str, Any]:
        """How images are prepared."""
        preparation = _preparation(settings, model)
        return {
            "input": {
                "size": [3, *preparation.size],
                "mean": list(preparation.mean),
                "std": list(preparation.std),
                "crop_pct": preparation.crop_pct,
                "interpolation": preparation.interpolation,
            }
        }

    def title(self, settings: TrainSettings) -> str:
        """The network and its images' size."""
        return f"{settings.model} from {settings.start} at {settings.image_size} px"

    def notes(self, settings: TrainSettings, splits: DataSplits) -> tuple[str, ...]:
        """The teacher, and advice for a run from scratch."""
        teacher = f"teacher: {settings.teacher}, {settings.distillation} distillation" if settings.teacher else ""
        return teacher, settings.advice if settings.image_size > SMALL_IMAGE else ""


def _preparation(settings: TrainSettings, model: nn.Module) -> ImagePreparation:
    preparation = preparation_of(model, image_size=settings.image_size)
    return replace(preparation, crop_pct=1.0) if settings.image_size <= SMALL_IMAGE else preparation
