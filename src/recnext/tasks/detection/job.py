"""Training a detector on COCO data."""

import platform
from collections.abc import Collection
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Optional

from accelerate import Accelerator
from rich.console import Console
from torch import nn

from recnext._version import __version__
from recnext.checkpoints.reading import read_weights
from recnext.data.sampling import seed_everything
from recnext.engine.accelerator import make_accelerator, precision_of
from recnext.engine.loop import fit
from recnext.engine.result import TrainingResult
from recnext.engine.resuming import read_settings, resumed
from recnext.engine.run_folder import RunFolder
from recnext.engine.settings import counted
from recnext.errors import RecNextError

from .batches import GroupedBatches, evaluation_loader, training_loader
from .checkpoint import describe, is_detector, load
from .config import DetectorConfig
from .data import CocoFolders, open_coco, training_transform
from .model import Detector, build
from .rle import mask_tools
from .settings import DetectSettings
from .task import DetectionTask

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "faster-coco-eval")


def train_detector(
    settings: DetectSettings,
    *,
    data: Path,
    given: Optional[Collection[str]] = None,
    console: Optional[Console] = None,
) -> TrainingResult:
    """Trains a detector and leaves the run in its output folder.

    Args:
        settings: of the run; a resumed one takes those it was started with.
        data: folder that `open_coco` takes.
        given: names of the settings that were asked for, which a resumed run may not contradict; by default those
            that differ from their defaults.
        console: for the progress, in the first process only; None is silent.

    Raises:
        RecNextError: the data are not so, a setting does not fit model, data or machine, or as `fit`.
        MissingExtraError: faster-coco-eval is not installed.
        OSError: a file could not be written.
    """
    mask_tools()  # evaluation needs it: better to say so before the first epoch than after it
    accelerator = make_accelerator(
        device=settings.device, precision=settings.precision, tracker=settings.tracker, folder=settings.folder
    )
    if not accelerator.is_main_process:
        console = None
    run = RunFolder(settings.folder, writer=accelerator.is_main_process)
    started = run.open(resume=settings.resume)
    note = ""
    if started:
        stored = read_settings(DetectSettings, run.read_config()["settings"], source=run.path / "config.yaml")
        settings, note = resumed(settings, stored, given=given)
    folders = open_coco(data, masks=settings.masks, max_missing=settings.max_unreadable, keep_empty=settings.keep_empty)
    if started:
        _require_same_data(run, folders)
    going_on = started and run.has_state()
    seed_everything(settings.seed)
    model = build_for(settings, folders, from_state=going_on)
    folders.train.transform = training_transform(hflip=settings.hflip, photometric=settings.photometric)
    place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
    batches = GroupedBatches(folders.train.wide(), batch_size=settings.batch_size, seed=settings.seed, **place)
    if len(folders.train) < 2 * accelerator.num_processes:
        raise RecNextError(f"{data} has {counted(len(folders.train), 'training image')}: give two or more a process")
    loading: dict[str, Any] = {"workers": settings.workers, "pin_memory": accelerator.device.type == "cuda"}
    config = _config(settings, data, folders, accelerator, batches, model)
    if console is not None:
        _announce(console, config, batches, folders, run.path, note)
    accelerator.wait_for_everyone()  # all have looked for a config; now the first one writes it
    run.write_config(config)
    run.write_recipe(settings.to_dict())
    result = fit(
        DetectionTask(
            model,
            file=folders.val.file,
            metadata=lambda epoch: describe(model, epoch=epoch),
            training_sizes=settings.training_sizes,
            evaluation_size=settings.image_size,
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


def build_for(settings: DetectSettings, folders: CocoFolders, *, from_state: bool = False) -> Detector:
    """The detector of a run; its starting weights are not needed when a state follows.

    Raises:
        RecNextError: the weights are none, or do not fit.
    """
    checkpoint = None if from_state else settings.checkpoint
    if checkpoint is not None and settings.pretrained:
        raise RecNextError("--checkpoint and --pretrained are both given: take one")
    config = DetectorConfig(
        backbone=settings.model,
        backbone_args=settings.model_args,
        num_classes=len(folders.class_names),
        masks=settings.masks,
        channels=settings.channels,
        box_features=settings.box_features,
        mask_layers=settings.mask_layers,
        anchor_scale=settings.anchor_scale,
        proposals=settings.proposals,
        roi_samples=settings.roi_samples,
        min_size=settings.image_size,
        max_size=settings.longest,
        class_names=folders.class_names,
        category_ids=folders.category_ids,
    )
    if checkpoint is None or not is_detector(read_weights(checkpoint)):
        return build(config, checkpoint=checkpoint, pretrained=settings.pretrained and not from_state)
    return _continued(load(checkpoint, backbone=settings.model), config, checkpoint)


def _continued(start: Detector, config: DetectorConfig, checkpoint: str) -> Detector:
    """A detector of `config` with the weights of another, but for predictors of other classes."""
    backbone_args = {**start.config.backbone_args, **config.backbone_args}
    model = build(replace(config, backbone_args=backbone_args))
    state = start.state_dict()
    if start.config.num_classes != config.num_classes:
        state = {key: value for key, value in state.items() if "_predictor." not in key or "conv5_mask" in key}
    if not config.masks:
        state = {key: value for key, value in state.items() if ".mask_" not in key}
    try:
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise RecNextError(f"{checkpoint} does not fit --channels, --box-features or --mask-layers: {reason}") from None
    return model


def _head(model: Detector) -> nn.Module:
    """What learns alone at first: all but the backbone."""
    return nn.ModuleList([model.backbone.fpn, model.backbone.finer, model.rpn, model.roi_heads])


def _require_same_data(run: RunFolder, folders: CocoFolders) -> None:
    config = run.read_config()
    for key, now in (("class_names", list(folders.class_names)), ("train_images", len(folders.train))):
        if config.get(key) != now:
            raise RecNextError(
                f"{run.path} was started on other data (its {key.replace('_', ' ')} differ): resume on the same "
                "images, or start a new run with another --output"
            )


def _config(
    settings: DetectSettings,
    data: Path,
    folders: CocoFolders,
    accelerator: Accelerator,
    batches: GroupedBatches,
    model: Detector,
) -> dict[str, Any]:
    """The content of ``config.yaml``."""
    global_batch = batches.batch_size * batches.world_size * settings.accumulate
    lr, rule = settings.peak_lr(global_batch)
    return {
        "task": "detection",
        "settings": settings.to_dict(),
        "data": str(data),
        "class_names": list(folders.class_names),
        "category_ids": list(folders.category_ids),
        "train_images": len(folders.train),
        "val_images": len(folders.val),
        "input": {
            "size": [settings.image_size, settings.longest],
            "mean": list(model.transform.image_mean),
            "std": list(model.transform.image_std),
        },
        "lr": lr,
        "lr_rule": rule,
        "global_batch": global_batch,
        "processes": accelerator.num_processes,
        "device": str(accelerator.device),
        "precision": precision_of(accelerator),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "passed_over": list(folders.notes),
        "versions": {
            "recnext": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
    }


def _announce(
    console: Console, config: dict[str, Any], batches: GroupedBatches, folders: CocoFolders, folder: Path, note: str
) -> None:
    """Prints what is about to happen, what of the data is passed over, the learning-rate rule, and `note`."""
    settings = config["settings"]
    steps = len(batches) // settings["accumulate"]
    length = counted(settings["epochs"], "epoch") + f" of {counted(steps, 'step')}"
    if settings["steps"] is not None:
        length = counted(settings["steps"], "step")
    start = settings["checkpoint"] or ("published weights" if settings["pretrained"] else "scratch")
    kind = "Mask R-CNN" if settings["masks"] else "Faster R-CNN (boxes alone)"
    size = config["input"]["size"]
    lines = [
        f"{kind} on {settings['model']} from {start}, {config['parameters'] / 1e6:.2f} M parameters, "
        f"{len(config['class_names'])} classes, shorter side {size[0]}, longer at most {size[1]} px",
        f"{config['train_images']} images to train on, {config['val_images']} to evaluate on, in {config['data']}",
        *folders.notes,
        f"{config['lr_rule']}; {length}, {config['device']}, {config['precision']}, "
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
    metrics = [key for key in last if key.startswith(("box_", "mask_"))]
    return {
        "task": "detection",
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
