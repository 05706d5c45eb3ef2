"""What a run writes about itself: its config, the lines at its start, its summary."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from torch import nn

from recnext._version import __version__
from recnext.data.identity import identity_of

from .accelerator import precision_of
from .choosing import warn_of_few
from .job import Job, Splits
from .result import TrainingResult
from .run_folder import Record, RunFolder
from .settings import LoopSettings, counted
from .task import BatchOrder

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "faster-coco-eval")


def describe_data(splits: Splits) -> dict[str, Any]:
    """What ``config.yaml`` says of the data, and a resumed run must find again."""
    return {
        "data": splits.source,
        "class_names": list(splits.class_names),
        "train_images": len(splits.train),
        "val_images": len(splits.val),
        "train_digest": identity_of(splits.train),
        "val_digest": identity_of(splits.val),
    }


def run_config(
    job: Job,
    settings: LoopSettings,
    facts: Mapping[str, Any],
    *,
    model: nn.Module,
    batches: BatchOrder,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """The content of ``config.yaml``; `facts` are those of `describe_data` and of the job."""
    global_batch = batches.batch_size * batches.world_size * settings.accumulate
    lr, rule = settings.peak_lr(global_batch)
    return {
        "task": job.name,
        "settings": settings.to_dict(),
        **facts,
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
    title: str,
    settings: LoopSettings,
    *,
    config: dict[str, Any],
    batches: BatchOrder,
    run: RunFolder,
    notes: Sequence[str],
) -> None:
    """Prints what is about to happen, the learning-rate rule among it, and `notes`."""
    per_epoch = len(batches) // settings.accumulate
    steps = counted(per_epoch, "step")
    length = settings.length() if settings.steps is not None else f"{settings.length()} of {steps}"
    lines = [
        f"{title}, {config['parameters'] / 1e6:.2f} M parameters, {len(config['class_names'])} classes",
        f"{config['train_images']} images to train on, {config['val_images']} to evaluate on, in {config['data']}",
        f"{config['lr_rule']}; {length}, {config['device']}, {config['precision']}, "
        f"{counted(config['processes'], 'process', 'es')}",
        f"run folder: {run.path}",
        *(note for note in (*notes, warn_of_few(settings.total_steps(per_epoch))) if note),
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
