"""What a classification run writes about itself: the config, the lines at the start, the summary."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from torch import nn

from recnext._version import __version__
from recnext.data import ImagePreparation
from recnext.data.sampling import TrainBatches
from recnext.data.transforms import SMALL_IMAGE
from recnext.engine.accelerator import precision_of
from recnext.engine.result import TrainingResult
from recnext.engine.settings import counted

from .data import Splits
from .settings import TrainSettings

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")


def run_config(
    settings: TrainSettings,
    *,
    splits: Splits,
    preparation: ImagePreparation,
    accelerator: Accelerator,
    batches: TrainBatches,
    model: nn.Module,
) -> dict[str, Any]:
    """The content of ``config.yaml``."""
    global_batch = batches.batch_size * batches.world_size * settings.accumulate
    lr, rule = settings.peak_lr(global_batch)
    return {
        "settings": settings.to_dict(),
        "data": splits.source,
        "class_names": list(splits.class_names),
        "train_images": len(splits.train),
        "val_images": len(splits.val),
        "input": {
            "size": [3, *preparation.size],
            "mean": list(preparation.mean),
            "std": list(preparation.std),
            "crop_pct": preparation.crop_pct,
            "interpolation": preparation.interpolation,
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


def announce(console: Console, *, config: dict[str, Any], batches: TrainBatches, folder: Path, note: str = "") -> None:
    """Prints what is about to happen, the learning-rate rule among it, and `note`."""
    settings = config["settings"]
    steps = len(batches) // settings["accumulate"]
    length = counted(settings["epochs"], "epoch") + f" of {counted(steps, 'step')}"
    if settings["steps"] is not None:
        length = counted(settings["steps"], "step")
    start = settings["checkpoint"] or ("published weights" if settings["pretrained"] else "scratch")
    lines = [
        f"{settings['model']} from {start}, {config['parameters'] / 1e6:.2f} M parameters, "
        f"{len(config['class_names'])} classes at {settings['image_size']} px",
        f"{config['train_images']} images to train on, {config['val_images']} to evaluate on, in {config['data']}",
        f"{config['lr_rule']}; {length}, "
        f"{config['device']}, {config['precision']}, {counted(config['processes'], 'process', 'es')}",
        f"run folder: {folder}",
    ]
    if settings["teacher"]:
        lines.append(f"teacher: {settings['teacher']}, {settings['distillation']} distillation")
    if note:
        lines.append(note)
    if batches.batch_size < settings["batch_size"]:
        lines.append(f"batch lowered from {settings['batch_size']} to {batches.batch_size}: there are no more images")
    if start == "scratch" and settings["image_size"] > SMALL_IMAGE:
        lines.append("from scratch: on small data --pretrained or --checkpoint reach more in less time")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def summarise(config: dict[str, Any], *, result: TrainingResult) -> dict[str, Any]:
    """The content of ``summary.json``."""
    assert result.best is not None
    records = result.records
    return {
        "model": config["settings"]["model"],
        "data": config["data"],
        "classes": len(config["class_names"]),
        "parameters": config["parameters"],
        "epochs": records[-1]["epoch"] + 1,
        "best_epoch": result.best["epoch"],
        "best": {key: result.best[key] for key in ("top1", "top5", "val_loss")},
        "last": {key: records[-1][key] for key in ("top1", "top5", "val_loss", "train_loss")},
        "images_per_second": sum(record["images_per_second"] for record in records) / len(records),
        "training_seconds": sum(record["seconds"] for record in records),
    }
