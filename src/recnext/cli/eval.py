"""`recnext eval`."""

import json as jsonlib
from pathlib import Path
from typing import Any, Optional

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn

from recnext.backends import forward_for
from recnext.checkpoints import load
from recnext.cli.checks import SMALLEST_IMAGE, require_at_least
from recnext.devices import choose_device
from recnext.errors import RecNextError
from recnext.evaluation import Accuracy, write_per_class
from recnext.evaluation.classifier import evaluate_classifier, open_for, preparation_of
from recnext.evaluation.plots import can_draw, draw_confusion

_WORST = 3  # classes shown


def run(
    data: str,
    checkpoint: Optional[str] = None,
    model: Optional[str] = None,
    pretrained: bool = False,
    fused: bool = False,
    ema: bool = False,
    image_size: Optional[int] = None,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
    backend: str = "torch",
    precision: str = "auto",
    json: bool = False,
    output: Optional[str] = None,
) -> int:
    """Measures the accuracy of a checkpoint on folders of images, DATA/val/CLASS/* or DATA/CLASS/*.

    Args:
        data: folder that holds val, or the class folders themselves.
        checkpoint: a file, a run folder or a hub id.
        model: timm name of the network, where the checkpoint does not tell.
        pretrained: the published weights of --model.
        fused: fold every BatchNorm before.
        ema: the moving average of the weights.
        image_size: side of the square input; by default what the checkpoint says.
        batch_size: images at once.
        workers: processes that load images.
        device: auto, cpu, cuda, cuda:1, mps.
        backend: torch, compile, onnxruntime, openvino, or auto for the fastest by a short trial.
        precision: f32, bf16, f16, or auto: with torch f32, otherwise also bf16 where the hardware has it.
        json: print JSON instead of a table.
        output: folder for per_class.csv, result.json and confusion.png.
    """
    if checkpoint is None and not pretrained:
        raise RecNextError("nothing to evaluate: give --checkpoint FILE or RUN, or --model NAME --pretrained")
    if checkpoint is None and model is None:
        raise RecNextError("--pretrained needs --model NAME ('recnext list' shows the networks)")
    require_at_least(1, batch_size=batch_size)
    require_at_least(0, workers=workers)
    require_at_least(SMALLEST_IMAGE, image_size=image_size)
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise RecNextError(f"{output} is a file: --output expects a folder")
    target = choose_device(device)
    network: nn.Module = load(
        model, checkpoint=checkpoint, pretrained=pretrained, fused=True if fused else None, ema=ema, device=target
    )
    source = checkpoint or f"{model} (published)"
    images = open_for(network, Path(data), checkpoint=source)
    preparation = preparation_of(network, image_size=image_size)
    channels = int(getattr(network, "in_chans", 3))
    example = torch.randn(batch_size, channels, *preparation.size, device=target)
    forward = forward_for(network, example, backend=backend, precision=precision)
    console = Console(stderr=json)
    with Progress(
        TextColumn("evaluating"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("", total=len(images))
        result = evaluate_classifier(
            forward,
            images,
            preparation=preparation,
            num_classes=len(images.class_names),
            device=target,
            batch_size=batch_size,
            workers=workers,
            on_batch=lambda batch: progress.advance(bar, len(batch.labels)),
        )
    facts: dict[str, Any] = {
        "checkpoint": source,
        "data": str(images.root),
        "images": result.images,
        "classes": len(images.class_names),
        "image_size": list(preparation.size),
        "fused": fused,
        "top1": result.top1,
        "top5": result.top5,
        "loss": result.loss,
        "images_per_second": result.images_per_second,
    }
    if output is not None:
        _write(Path(output), facts, result, images.class_names)
    if json:
        print(jsonlib.dumps(facts, indent=1, ensure_ascii=False))
    else:
        console.print(_table(facts, result, images.class_names))
        if output is not None:
            console.print(f"per-class results in {output}", highlight=False, soft_wrap=True)
    return 0


def _table(facts: dict[str, Any], result: Accuracy, class_names: tuple[str, ...]) -> Table:
    table = Table(title=f"{facts['checkpoint']} on {facts['data']}", show_header=False, title_justify="left")
    height, width = facts["image_size"]
    table.add_row("images", f"{result.images} of {facts['classes']} classes at {height}x{width}")
    table.add_row("top-1", f"[bold]{result.top1:.2f} %")
    table.add_row("top-5", f"{result.top5:.2f} %")
    table.add_row("loss", f"{result.loss:.4f}")
    table.add_row("speed", f"{result.images_per_second:.0f} images/s, loading included")
    totals, right = result.confusion.sum(1), result.confusion.diagonal()
    shares = [(int(r) / int(n), name) for r, n, name in zip(right, totals, class_names, strict=True) if n > 0]
    worst = [f"{name} {100 * share:.1f} %" for share, name in sorted(shares)[:_WORST] if share < 1]
    table.add_row("lowest classes", ", ".join(worst) or "all are right")
    return table


def _write(folder: Path, facts: dict[str, Any], result: Accuracy, class_names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_per_class(folder / "per_class.csv", result.confusion, class_names)
    (folder / "result.json").write_text(jsonlib.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if can_draw():
        draw_confusion(folder / "confusion.png", result.confusion, class_names)
