"""Training a segmenter on folders of images and masks."""

import platform
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Optional

from accelerate import Accelerator
from rich.console import Console
from torch import nn

from recnext._version import __version__
from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.checkpoints.reading import read_weights
from recnext.checkpoints.saving import describe
from recnext.data.sampling import TrainBatches, seed_everything
from recnext.engine.accelerator import make_accelerator, precision_of
from recnext.engine.loop import fit
from recnext.engine.result import TrainingResult
from recnext.engine.resuming import read_settings, resumed
from recnext.engine.run_folder import RunFolder
from recnext.engine.settings import counted
from recnext.errors import RecNextError

from .batches import evaluation_loader, training_loader
from .checkpoint import load
from .data import MaskFolders, open_mask_folders
from .evaluate import preparation_of
from .model import SemanticFPN, build
from .settings import SegmentSettings
from .task import SegmentationTask
from .transforms import SegmentationPreparation

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")


def train_segmenter(
    settings: SegmentSettings,
    *,
    data: Path,
    given: Optional[Collection[str]] = None,
    console: Optional[Console] = None,
) -> TrainingResult:
    """Trains a Semantic FPN and leaves the run in its output folder.

    Args:
        settings: of the run; a resumed one takes those it was started with.
        data: ADE20K's layout, or ``data/{train,val}/{images,masks}``.
        given: names of the settings that were asked for, which a resumed run may not contradict; by default those
            that differ from their defaults.
        console: for the progress, in the first process only; None is silent.

    Raises:
        RecNextError: the data are not so, a setting does not fit model, data or machine, or as `fit`.
        OSError: a file could not be written.
    """
    folders = open_mask_folders(data, num_classes=settings.num_classes)
    accelerator = make_accelerator(
        device=settings.device, precision=settings.precision, tracker=settings.tracker, folder=settings.folder
    )
    if not accelerator.is_main_process:
        console = None
    run = RunFolder(settings.folder, writer=accelerator.is_main_process)
    note = ""
    if started := run.open(resume=settings.resume):
        settings, note = _resumed(settings, run, folders, given)
    going_on = started and run.has_state()
    seed_everything(settings.seed)
    model = build_for(settings, len(folders.class_names), from_state=going_on)
    settings = replace(settings, model_args=describe(model.backbone).model_args)  # a checkpoint may bring its own
    preparation = preparation_of(model, image_size=settings.image_size)
    folders.train.transform = preparation.training_transform(
        scale=settings.scale,
        cat_max_ratio=settings.cat_max_ratio,
        hflip=settings.hflip,
        photometric=settings.photometric,
    )
    folders.val.transform = preparation.evaluation_transform()
    place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
    batches = TrainBatches(len(folders.train), batch_size=settings.batch_size, seed=settings.seed, **place)
    if batches.batch_size < 2:
        raise RecNextError(f"{data} has {counted(len(folders.train), 'training image')}: give two or more a process")
    loading: dict[str, Any] = {"workers": settings.workers, "pin_memory": accelerator.device.type == "cuda"}
    config = _config(settings, data, folders, preparation, accelerator, batches, model)
    if console is not None:
        _announce(console, config, batches, run.path, note)
    accelerator.wait_for_everyone()  # all have looked for a config; now the first one writes it
    run.write_config(config)
    run.write_recipe(settings.to_dict())
    result = fit(
        SegmentationTask(
            model,
            preparation=preparation,
            metadata=partial(_metadata, settings, folders.class_names, preparation),
            loss_normalisation=settings.loss,
            channels_last=settings.channels_last,
        ),
        train_loader=training_loader(folders.train, batches, seed=settings.seed, **loading),
        val_loader=evaluation_loader(folders.val, **place, **loading),
        settings=settings,
        run=run,
        accelerator=accelerator,
        resume=going_on,
        head=_head(model) if settings.freeze_epochs else None,
        console=console,
    )
    if result.interrupted is None:
        run.write_summary(_summary(config, result))
    return result


def build_for(settings: SegmentSettings, num_classes: int, *, from_state: bool = False) -> SemanticFPN:
    """The segmenter of a run; its starting weights are not needed when a state follows.

    Raises:
        RecNextError: the weights are none, or do not fit.
    """
    arguments: dict[str, Any] = {
        "num_classes": num_classes,
        "neck_channels": settings.neck_channels,
        "head_channels": settings.head_channels,
        "dropout": settings.dropout,
        "backbone_args": settings.model_args,
    }
    checkpoint = None if from_state else settings.checkpoint
    if checkpoint is not None and settings.pretrained:
        raise RecNextError("--checkpoint and --pretrained are both given: take one")
    if checkpoint is None or "decode_head.conv_seg.weight" not in read_weights(checkpoint).state:
        pretrained = settings.pretrained and not from_state
        return build(settings.model, checkpoint=checkpoint, pretrained=pretrained, **arguments)
    loaded = load(checkpoint, backbone=settings.model, **settings.model_args)
    model = build(settings.model, **arguments)
    state = loaded.state_dict()
    if loaded.num_classes != num_classes:
        state = {key: value for key, value in state.items() if not key.startswith("decode_head.conv_seg.")}
    try:
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise RecNextError(f"{checkpoint} does not fit --neck-channels and --head-channels: {reason}") from None
    return model


def _head(model: SemanticFPN) -> nn.Module:
    """What learns alone at first: neck and head."""
    return nn.ModuleList([model.neck, model.decode_head])


def _resumed(
    settings: SegmentSettings, run: RunFolder, folders: MaskFolders, given: Optional[Collection[str]]
) -> tuple[SegmentSettings, str]:
    config = run.read_config()
    for key, now in (("class_names", list(folders.class_names)), ("train_images", len(folders.train))):
        if config.get(key) != now:
            raise RecNextError(
                f"{run.path} was started on other data (its {key.replace('_', ' ')} differ): resume on the same "
                "images, or start a new run with another --output"
            )
    stored = read_settings(SegmentSettings, config["settings"], source=run.path / "config.yaml")
    return resumed(settings, stored, given=given)


def _metadata(
    settings: SegmentSettings, class_names: tuple[str, ...], preparation: SegmentationPreparation, epoch: int
) -> CheckpointMetadata:
    return CheckpointMetadata(
        model=settings.model,
        num_classes=len(class_names),
        model_args=settings.model_args,
        class_names=class_names,
        input_size=(3, preparation.image_size, preparation.image_size),
        mean=preparation.mean,
        std=preparation.std,
        crop_pct=1.0,
        interpolation="bilinear",
        epoch=epoch,
    )


def _config(
    settings: SegmentSettings,
    data: Path,
    folders: MaskFolders,
    preparation: SegmentationPreparation,
    accelerator: Accelerator,
    batches: TrainBatches,
    model: SemanticFPN,
) -> dict[str, Any]:
    """The content of ``config.yaml``."""
    global_batch = batches.batch_size * batches.world_size * settings.accumulate
    lr, rule = settings.peak_lr(global_batch)
    return {
        "task": "segmentation",
        "settings": settings.to_dict(),
        "data": str(data),
        "layout": folders.layout,
        "class_names": list(folders.class_names),
        "train_images": len(folders.train),
        "val_images": len(folders.val),
        "input": {
            "size": preparation.image_size,
            "mean": list(preparation.mean),
            "std": list(preparation.std),
        },
        "lr": lr,
        "lr_rule": rule,
        "global_batch": global_batch,
        "processes": accelerator.num_processes,
        "device": str(accelerator.device),
        "precision": precision_of(accelerator),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {
            "recnext": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
    }


def _announce(console: Console, config: dict[str, Any], batches: TrainBatches, folder: Path, note: str) -> None:
    """Prints what is about to happen, the learning-rate rule among it, and `note`."""
    settings = config["settings"]
    steps = len(batches) // settings["accumulate"]
    length = counted(settings["epochs"], "epoch") + f" of {counted(steps, 'step')}"
    if settings["steps"] is not None:
        length = counted(settings["steps"], "step")
    start = settings["checkpoint"] or ("published weights" if settings["pretrained"] else "scratch")
    divided = "all pixels, as published" if settings["loss"] == "all" else "the pixels with a label"
    lines = [
        f"Semantic FPN on {settings['model']} from {start}, {config['parameters'] / 1e6:.2f} M parameters, "
        f"{len(config['class_names'])} classes, crops of {settings['image_size']} px",
        f"{config['train_images']} images to train on, {config['val_images']} to evaluate on, in {config['data']}",
        f"{config['lr_rule']}; {length}, loss over {divided}, {config['device']}, {config['precision']}, "
        f"{counted(config['processes'], 'process', 'es')}",
        f"run folder: {folder}",
    ]
    if note:
        lines.append(note)
    if batches.batch_size < settings["batch_size"]:
        lines.append(f"batch lowered from {settings['batch_size']} to {batches.batch_size}: there are no more images")
    if start == "scratch":
        lines.append("from scratch: on small data --pretrained or --checkpoint reach more in less time")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _summary(config: dict[str, Any], result: TrainingResult) -> dict[str, Any]:
    """The content of ``summary.json``."""
    assert result.best is not None
    last = result.records[-1]
    metrics = ("miou", "macc", "aacc")
    return {
        "task": "segmentation",
        "model": config["settings"]["model"],
        "data": config["data"],
        "classes": len(config["class_names"]),
        "parameters": config["parameters"],
        "epochs": last["epoch"] + 1,
        "steps": last["step"],
        "best_epoch": result.best["epoch"],
        "best": {key: result.best[key] for key in metrics},
        "last": {key: last[key] for key in (*metrics, "train_loss")},
        "images_per_second": sum(record["images_per_second"] for record in result.records) / len(result.records),
        "training_seconds": sum(record["seconds"] for record in result.records),
    }
