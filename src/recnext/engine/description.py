"""What a run writes about itself: its config, the lines at its start, its summary."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from torch import nn

from recnext._version import __version__

from .accelerator import precision_of
from .job import Job, Splits
from .result import TrainingResult
from .run_folder import Record
from .settings import LoopSettings, counted
from .task import BatchOrder

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "faster-coco-eval")


def run_config(
    job: Job,
    settings: LoopSettings,
    *,
    model: nn.Module,
    splits: Splits,
    batches: BatchOrder,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """The content of ``config.yaml``."""
    global_batch = batches.batch_size * batches.world_size * settings.accumulate
    lr, rule = settings.peak_lr(global_batch)
    return {
        "task": job.name,
        "settings": settings.to_dict(),
        "data": splits.source,
        "class_names": list(splits.class_names),
        "train_images": len(splits.train),
        "val_images": len(splits.val),
        **job.facts(settings, model, splits),
        "lr": lr,
        "lr_rule": rule,
        "global_batch": global_batch,
        "processes": accelerator.num_processes,
        "device": str(accelerator.device),
        "precision": precision_of(accelerator),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {"recnext": __version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # of another extra
            continue
    return found


def announce(
    console: Console,
    settings: LoopSettings,
    *,
    title: str,
    config: dict[str, Any],
    batches: BatchOrder,
    folder: Path,
    notes: Sequence[str],
) -> None:
    """Prints what is about to happen, the learning-rate rule among it, and `notes`."""
    steps = counted(len(batches) // settings.accumulate, "step")
    length = settings.length() if settings.steps is not None else f"{settings.length()} of {steps}"
    lines = [
        f"{title}, {config['parameters'] / 1e6:.2f} M parameters, {len(config['class_names'])} classes",
        f"{config['train_images']} images to train on, {config['val_images']} to evaluate on, in {config['data']}",
        f"{config['lr_rule']}; {length}, {config['device']}, {config['precision']}, "
        f"{counted(config['processes'], 'process', 'es')}",
        f"run folder: {folder}",
        *(note for note in notes if note),
    ]
    if batches.batch_size < settings.batch_size:
        lines.append(f"batch lowered from {settings.batch_size} to {batches.batch_size}: there are no more images")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def summarise(job: Job, *, config: dict[str, Any], result: TrainingResult) -> dict[str, Any]:
    """The content of ``summary.json``; epochs count from 1."""
    assert result.best is not None
    records, last = result.records, result.records[-1]
    return {
        "task": job.name,
        "model": config["settings"].get("model", job.name),
        "data": config["data"],
        "classes": len(config["class_names"]),
        "parameters": config["parameters"],
        "epochs": last["epoch"] + 1,
        "steps": last["step"],
        "best_epoch": result.best["epoch"] + 1,
        "best": _metrics(job, result.best),
        "last": {**_metrics(job, last), "train_loss": last["train_loss"]},
        "images_per_second": sum(record["images_per_second"] for record in records) / len(records),
        "training_seconds": sum(record["seconds"] for record in records),
    }


def _metrics(job: Job, record: Record) -> dict[str, Any]:
    return {metric.key: record[metric.key] for metric in job.metrics if metric.key in record}
