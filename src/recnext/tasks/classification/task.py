"""Training a classifier: on class folders, or on any two data sets of images."""

from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Optional, Union

import torch
from accelerate import Accelerator
from rich.console import Console
from timm.task import TokenDistillationTask
from torch import Tensor, nn

from recnext.checkpoints import load
from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.checkpoints.saving import describe
from recnext.data import Augmentation, Batch, ImagePreparation, make_loader, open_dataset, prepare_batch
from recnext.data.sampling import EvaluationBatches, TrainBatches, seed_everything
from recnext.data.transforms import SMALL_IMAGE
from recnext.engine.accelerator import autocast_dtype, make_accelerator
from recnext.engine.loop import fit
from recnext.engine.result import TrainingResult
from recnext.engine.resuming import read_settings, resumed
from recnext.engine.run_folder import RunFolder
from recnext.engine.task import Metrics
from recnext.errors import RecNextError

from .accuracy import evaluate
from .data import Splits
from .description import announce, run_config, summarise
from .drop_path import drop_path_args
from .evaluate import preparation_of
from .mixing import Mixing
from .settings import TrainSettings
from .teacher import load_teacher, make_distiller


class ClassificationTask:
    """Cross entropy on labels or on mixed ones, perhaps with a teacher's; top-1, top-5 and loss.

    Args:
        model: (N, 3, H, W) to logits.
        preparation: of the images.
        metadata: saved with the weights.
        mixing: of the batch, and its loss.
        augmentation: what of it happens on the device.
        seed: of that.
        distiller: gives the loss in place of `mixing`'s where there is a teacher.
        precision: of the teacher.
        channels_last: memory format of the images.
    """

    monitor = "top1"

    def __init__(
        self,
        model: nn.Module,
        *,
        preparation: ImagePreparation,
        metadata: Callable[[int], CheckpointMetadata],
        num_classes: int,
        mixing: Mixing,
        augmentation: Optional[Augmentation] = None,
        seed: int = 0,
        distiller: Optional[TokenDistillationTask] = None,
        precision: Optional[torch.dtype] = None,
        channels_last: bool = True,
    ) -> None:
        self.model = model
        self.preparation = preparation
        self.metadata = metadata
        self.num_classes = num_classes
        self.mixing = mixing
        self.augmentation = augmentation
        self.seed = seed
        self.distiller = distiller
        self.precision = precision
        self.channels_last = channels_last

    def loss(self, model: nn.Module, batch: Batch, *, device: torch.device) -> Tensor:
        """Mean loss of the batch."""
        images = prepare_batch(
            batch,
            preparation=self.preparation,
            device=device,
            augmentation=self.augmentation,
            seed=self.seed,
            channels_last=self.channels_last,
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


def train_on_folders(
    settings: TrainSettings,
    *,
    data: Union[str, Path],
    given: Optional[Collection[str]] = None,
    console: Optional[Console] = None,
) -> TrainingResult:
    """Trains on ``data/train/<class>/*`` and evaluates on ``data/val/<class>/*``; arguments as `train_classifier`.

    Args:
        settings: of the run.
        data: the folder, or ``kind:place`` as `recnext.data.open_dataset` takes it.
        given: names of the settings that were asked for.
        console: for the progress.

    Raises:
        RecNextError: the data is not there or not as it should be, or as `train_classifier`.
    """
    opened = open_dataset(str(data))
    splits = Splits(opened.train, opened.val, opened.class_names, opened.source)
    return train_classifier(settings, splits=splits, given=given, console=console)


def train_classifier(
    settings: TrainSettings,
    *,
    splits: Splits,
    given: Optional[Collection[str]] = None,
    console: Optional[Console] = None,
) -> TrainingResult:
    """Trains a network of `settings` and leaves the run in its output folder.

    Args:
        settings: of the run; a resumed one takes those it was started with.
        splits: the images.
        given: names of the settings that were asked for, which a resumed run may not contradict; by default those
            that differ from their defaults.
        console: for the progress, in the first process only; None is silent.

    Raises:
        RecNextError: a setting does not fit the model, data or machine, or as `fit`.
        OSError: a file could not be written.
    """
    accelerator = make_accelerator(
        device=settings.device, precision=settings.precision, tracker=settings.tracker, folder=settings.folder
    )
    if not accelerator.is_main_process:
        console = None
    run = RunFolder(settings.folder, writer=accelerator.is_main_process)
    note = ""
    if started := run.open(resume=settings.resume):
        settings, note = _resumed(settings, run, splits, given)
    going_on = started and run.has_state()
    seed_everything(settings.seed)
    model = _build(settings, len(splits.class_names), from_state=going_on)
    settings = replace(settings, model_args=describe(model).model_args)  # a checkpoint may have brought its own
    preparation = _preparation(settings, model)
    splits.train.transform = preparation.training_transform(settings.augmentation)
    splits.val.transform = preparation.evaluation_transform()
    place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
    train_batches = TrainBatches(
        len(splits.train), batch_size=settings.batch_size, seed=settings.seed, repeats=settings.repeats, **place
    )
    val_batches = EvaluationBatches(len(splits.val), batch_size=settings.batch_size, **place)
    make = partial(
        make_loader, seed=settings.seed, workers=settings.workers, pin_memory=accelerator.device.type == "cuda"
    )
    task = _task(settings, model, splits.class_names, preparation, train_batches, accelerator)
    config = run_config(
        settings, splits=splits, preparation=preparation, accelerator=accelerator, batches=train_batches, model=model
    )
    if console is not None:
        announce(console, config=config, batches=train_batches, folder=run.path, note=note)
    accelerator.wait_for_everyone()  # all have looked for a config; now the first one writes it
    run.write_config(config)
    run.write_recipe(settings.to_dict())
    result = fit(
        task,
        train_loader=make(splits.train, train_batches),
        val_loader=make(splits.val, val_batches),
        settings=settings,
        run=run,
        accelerator=accelerator,
        resume=going_on,
        head=_classifier(model) if settings.freeze_epochs else None,
        console=console,
    )
    if result.interrupted is None:
        run.write_summary(summarise(config, result=result))
    return result


def _resumed(
    settings: TrainSettings, run: RunFolder, splits: Splits, given: Optional[Collection[str]]
) -> tuple[TrainSettings, str]:
    config = run.read_config()
    for key, now in (("class_names", list(splits.class_names)), ("train_images", len(splits.train))):
        if config.get(key) != now:
            shown = (config.get(key), now) if isinstance(now, int) else ("others", ", ".join(now[:8]))
            raise RecNextError(
                f"{run.path} was started on other data ({key.replace('_', ' ')}: {shown[0]}, now {shown[1]}): "
                "resume on the same images, or start a new run with another --output"
            )
    stored = read_settings(TrainSettings, config["settings"], source=run.path / "config.yaml")
    return resumed(settings, stored, given=given)


def _task(
    settings: TrainSettings,
    model: nn.Module,
    class_names: tuple[str, ...],
    preparation: ImagePreparation,
    batches: TrainBatches,
    accelerator: Accelerator,
) -> ClassificationTask:
    mixing = Mixing(settings, num_classes=len(class_names))
    if mixing.mixup is not None and batches.batch_size % 2:
        raise RecNextError(
            f"{batches.length} images allow a batch of {batches.batch_size} in each process, and mixup and cutmix "
            f"pair images: give --batch-size {batches.batch_size - 1}, or --mixup 0 --cutmix 0"
        )
    distiller = None
    if settings.teacher is not None:
        teacher = load_teacher(settings.teacher, checkpoint=settings.teacher_checkpoint, class_names=class_names)
        distiller = make_distiller(model, teacher, mixing.criterion, settings, device=accelerator.device)
    return ClassificationTask(
        model,
        preparation=preparation,
        metadata=partial(_metadata, settings, class_names, preparation),
        num_classes=len(class_names),
        mixing=mixing,
        augmentation=settings.augmentation,
        seed=settings.seed,
        distiller=distiller,
        precision=autocast_dtype(accelerator),
        channels_last=settings.channels_last,
    )


def _classifier(model: nn.Module) -> nn.Module:
    """The part that learns alone at first."""
    classifier: nn.Module = model.get_classifier()  # type: ignore[operator]
    return classifier


def _build(settings: TrainSettings, num_classes: int, *, from_state: bool) -> nn.Module:
    """The network; its starting weights are not needed when a state follows."""
    return load(
        settings.model,
        checkpoint=None if from_state else settings.checkpoint,
        pretrained=settings.pretrained and not from_state,
        num_classes=num_classes,
        fused=False,
        **{**settings.model_args, **drop_path_args(settings)},
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
