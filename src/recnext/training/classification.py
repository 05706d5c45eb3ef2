"""Training a classifier: on class folders, or on any two data sets of images."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Optional

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from recnext.checkpoints import load
from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.checkpoints.saving import describe
from recnext.data import Augmentation, Batch, ImagePreparation, make_loader, normalise, open_class_folders
from recnext.data.sampling import EvaluationBatches, TrainBatches, seed_everything
from recnext.data.transforms import SMALL_IMAGE
from recnext.errors import RecNextError
from recnext.evaluation import evaluate
from recnext.evaluation.classifier import preparation_of

from .description import announce, run_config, summarise
from .engine import make_accelerator
from .loop import fit
from .result import TrainingResult
from .run_folder import RunFolder
from .settings import TrainSettings
from .splits import Splits
from .task import Metrics


class ClassificationTask:
    """Cross entropy with label smoothing; top-1, top-5 and loss.

    Args:
        model: (N, 3, H, W) to logits.
        preparation: of the images.
        metadata: saved with the weights.
        label_smoothing: share of the target spread over all classes.
    """

    monitor = "top1"

    def __init__(
        self,
        model: nn.Module,
        *,
        preparation: ImagePreparation,
        metadata: Callable[[int], CheckpointMetadata],
        num_classes: int,
        label_smoothing: float = 0.0,
    ) -> None:
        self.model = model
        self.preparation = preparation
        self.metadata = metadata
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def loss(self, model: nn.Module, batch: Batch, *, device: torch.device) -> Tensor:
        """Mean loss of the batch."""
        images = normalise(batch.images, mean=self.preparation.mean, std=self.preparation.std, device=device)
        labels = batch.labels.to(device, non_blocking=True)
        return F.cross_entropy(model(images).float(), labels, label_smoothing=self.label_smoothing)

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
            num_classes=self.num_classes,
            preparation=self.preparation,
            device=device,
            precision=precision,
            should_stop=should_stop,
        )

        def compute() -> Metrics:
            result = meter.compute()
            return {"val_loss": result.loss, "top1": result.top1, "top5": result.top5}

        return compute


def train_on_folders(settings: TrainSettings, *, data: Path, console: Optional[Console] = None) -> TrainingResult:
    """Trains on ``data/train/<class>/*`` and evaluates on ``data/val/<class>/*``.

    Raises:
        RecNextError: the folders are not so, or as `train_classifier`.
    """
    folders = open_class_folders(data)
    splits = Splits(folders.train, folders.val, folders.class_names, str(data))
    return train_classifier(settings, splits=splits, console=console)


def train_classifier(settings: TrainSettings, *, splits: Splits, console: Optional[Console] = None) -> TrainingResult:
    """Trains a network of `settings` and leaves the run in its output folder.

    Args:
        settings: of the run; a resumed one takes those it was started with.
        splits: the images.
        console: for the progress, in the first process only; None is silent.

    Raises:
        RecNextError: a setting does not fit the model, data or machine, or as `fit`.
        OSError: a file could not be written.
    """
    accelerator = make_accelerator(device=settings.device, precision=settings.precision)
    run = RunFolder(settings.folder, writer=accelerator.is_main_process)
    going_on = run.open(resume=settings.resume)
    if settings.resume:
        settings = _resumed(settings, run, splits)
    seed_everything(settings.seed)
    model = _build(settings, len(splits.class_names), from_state=going_on)
    settings = replace(settings, model_args=describe(model).model_args)  # a checkpoint may have brought its own
    preparation = _preparation(settings, model)
    splits.train.transform = preparation.training_transform(
        Augmentation(crop_scale=settings.crop_scale, hflip=settings.hflip, color_jitter=settings.color_jitter)
    )
    splits.val.transform = preparation.evaluation_transform()
    train_batches = TrainBatches(
        len(splits.train),
        batch_size=settings.batch_size,
        seed=settings.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    val_batches = EvaluationBatches(
        len(splits.val),
        batch_size=settings.batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    make = partial(
        make_loader, seed=settings.seed, workers=settings.workers, pin_memory=accelerator.device.type == "cuda"
    )
    config = run_config(
        settings, splits=splits, preparation=preparation, accelerator=accelerator, batches=train_batches, model=model
    )
    if not accelerator.is_main_process:
        console = None
    if console is not None:
        announce(console, config=config, batches=train_batches, folder=run.path)
    accelerator.wait_for_everyone()  # all have looked for a config; now the first one writes it
    run.write_config(config)
    task = ClassificationTask(
        model,
        preparation=preparation,
        metadata=partial(_metadata, settings, splits.class_names, preparation),
        num_classes=len(splits.class_names),
        label_smoothing=settings.label_smoothing,
    )
    result = fit(
        task,
        train_loader=make(splits.train, train_batches),
        val_loader=make(splits.val, val_batches),
        settings=settings,
        run=run,
        accelerator=accelerator,
        resume=going_on,
        console=console,
    )
    if result.interrupted is None:
        run.write_summary(summarise(config, result=result))
    return result


def _resumed(settings: TrainSettings, run: RunFolder, splits: Splits) -> TrainSettings:
    config = run.read_config()
    for key, now in (("class_names", list(splits.class_names)), ("train_images", len(splits.train))):
        if config.get(key) != now:
            shown = (config.get(key), now) if isinstance(now, int) else ("others", ", ".join(now[:8]))
            raise RecNextError(
                f"{run.path} was started on other data ({key.replace('_', ' ')}: {shown[0]}, now {shown[1]}): "
                "resume on the same images, or start a new run with another --output"
            )
    return settings.merged_into(config["settings"])


def _build(settings: TrainSettings, num_classes: int, *, from_state: bool) -> nn.Module:
    """The network; its starting weights are not needed when a state follows."""
    return load(
        settings.model,
        checkpoint=None if from_state else settings.checkpoint,
        pretrained=settings.pretrained and not from_state,
        num_classes=num_classes,
        fused=False,
        **settings.model_args,
    )


def _preparation(settings: TrainSettings, model: nn.Module) -> ImagePreparation:
    preparation = preparation_of(model, image_size=settings.image_size)
    return replace(preparation, crop_pct=1.0) if settings.image_size <= SMALL_IMAGE else preparation


def _metadata(
    settings: TrainSettings, class_names: tuple[str, ...], preparation: ImagePreparation, epoch: int
) -> CheckpointMetadata:
    return CheckpointMetadata(
        model=settings.model,
        num_classes=len(class_names),
        model_args=settings.model_args,
        class_names=class_names,
        input_size=(3, *preparation.size),
        mean=preparation.mean,
        std=preparation.std,
        crop_pct=preparation.crop_pct,
        interpolation=preparation.interpolation,
        epoch=epoch,
    )
