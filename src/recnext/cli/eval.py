"""`recnext eval`."""

import json as jsonlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn

from recnext.checkpoints import load
from recnext.data.imagenet import wnids
from recnext.deploy.optimize import forward_for
from recnext.engine.figures import can_draw, draw_confusion
from recnext.engine.processes import Processes, joined
from recnext.errors import RecNextError
from recnext.tasks.classification.accuracy import Accuracy
from recnext.tasks.classification.evaluate import evaluate_classifier, open_for, preparation_of, with_mirror
from recnext.tasks.classification.imagenet import (
    CORRUPTED,
    TEST_SETS,
    LabelledSet,
    corruption_errors,
    mean_corruption_error,
    open_corruptions,
    open_test_set,
    real_accuracy,
)
from recnext.tasks.classification.per_class import write_per_class
from recnext.tasks.classification.reference import published_results

from .shared import SMALLEST_IMAGE, require_at_least

_WORST = 3  # classes shown
_Measure = Callable[[LabelledSet], Accuracy]


def run(
    data: str,
    checkpoint: Optional[str] = None,
    model: Optional[str] = None,
    pretrained: bool = False,
    fused: bool = False,
    ema: bool = False,
    image_size: Optional[int] = None,
    crop_pct: Optional[float] = None,
    tta: bool = False,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
    backend: str = "torch",
    precision: str = "auto",
    json: bool = False,
    output: Optional[str] = None,
) -> int:
    """Measures the accuracy of a checkpoint on labelled images, DATA/val/CLASS/* or DATA/CLASS/*.

    Also under torchrun or accelerate launch: the processes share the images, and the numbers are the same.

    Args:
        data: folder that holds val, or the class folders themselves; a data set such as imagenet:ROOT, cifar100:ROOT,
            wds:ROOT; or a test set of ImageNet: imagenet-v2:, imagenet-a:, imagenet-r:, imagenet-sketch:,
            imagenet-c:ROOT.
        checkpoint: a file, a run folder or a hub id.
        model: timm name of the network, where the checkpoint does not tell.
        pretrained: the published weights of --model.
        fused: fold every BatchNorm before.
        ema: the moving average of the weights.
        image_size: side of the square input; by default what the checkpoint says.
        crop_pct: share of the resized image's side that is kept; by default what the checkpoint says.
        tta: also run the mirrored image and take the mean of the logits.
        batch_size: images at once, in each process.
        workers: processes that load images.
        device: auto, cpu, cuda, cuda:1, mps.
        backend: torch, compile, onnxruntime, openvino, or auto for the fastest by a short trial.
        precision: fp32, bf16, fp16, or auto: with torch fp32, otherwise also bf16 where the hardware has it.
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
    if crop_pct is not None and not 0 < crop_pct <= 1:
        raise RecNextError(f"--crop-pct is {crop_pct:g}: expected a share above 0, at most 1")
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise RecNextError(f"{output} is a file: --output expects a folder")
    with joined(device) as processes:
        network: nn.Module = load(
            model,
            checkpoint=checkpoint,
            pretrained=pretrained,
            fused=True if fused else None,
            ema=ema,
            device=processes.device,
        )
        source = checkpoint or f"{model} (published)"
        kind, sets = _open(data, network, checkpoint=source)
        preparation = preparation_of(network, image_size=image_size, crop_pct=crop_pct)
        channels = int(getattr(network, "in_chans", 3))
        example = torch.randn(batch_size, channels, *preparation.size, device=processes.device)
        forward = forward_for(network, example, backend=backend, precision=precision)
        forward = with_mirror(forward) if tta else forward
        console = Console(stderr=json, quiet=not processes.first)
        with _progress(console) as progress:
            total = sum(len(one.images) for by_severity in sets.values() for one in by_severity.values())
            bar = progress.add_task("", total=-(-total // processes.world_size))

            def measure(labelled: LabelledSet) -> Accuracy:
                return evaluate_classifier(
                    labelled.restrict(forward),
                    labelled.images,
                    preparation=preparation,
                    num_classes=len(labelled.images.class_names),
                    device=processes.device,
                    batch_size=batch_size,
                    workers=workers,
                    rank=processes.rank,
                    world_size=processes.world_size,
                    on_batch=lambda batch: progress.advance(bar, len(batch.labels)),
                )

            facts: dict[str, Any] = {
                "checkpoint": source,
                "data": data,
                "image_size": list(preparation.size),
                "crop_pct": preparation.crop_pct,
                "fused": fused,
                "tta": tta,
                "processes": processes.world_size,
                "published": published_results(_network_name(network, pretrained=pretrained), kind),
            }
            if kind == CORRUPTED:
                return _report_corruptions(facts, sets, measure, processes, console, json=json, output=output)
            labelled = sets[""][0]
            result = measure(labelled)
    if processes.first:
        facts |= _facts(labelled, result)
        _report(facts, labelled, result, console, json=json, output=output)
    return 0


def _open(data: str, network: nn.Module, *, checkpoint: str) -> tuple[str, dict[str, dict[int, LabelledSet]]]:
    """(kind of data, what to evaluate by corruption and severity; one set under "" and 0)."""
    kind, _, place = data.partition(":")
    if kind == CORRUPTED or kind in TEST_SETS:
        classes, root = int(network.num_classes), Path(place)  # type: ignore[arg-type]
        if classes != len(wnids()):
            raise RecNextError(f"{checkpoint} knows {classes} classes: {kind} is for networks of ImageNet's 1000")
        return kind, open_corruptions(root) if kind == CORRUPTED else {"": {0: open_test_set(kind, root)}}
    images = open_for(network, data, checkpoint=checkpoint)
    if "ILSVRC2012_val_" in _first_name(images):
        kind = "imagenet"
    return kind, {"": {0: LabelledSet(images)}}


def _first_name(images: Any) -> str:
    return images.name(0) if hasattr(images, "name") and len(images) else ""


def _network_name(network: nn.Module, *, pretrained: bool) -> str:
    """Its architecture; published weights have a tag, too."""
    config = getattr(network, "pretrained_cfg", None) or {}
    name = str(config.get("architecture", ""))
    return f"{name}.{config['tag']}" if pretrained and config.get("tag") else name


def _facts(labelled: LabelledSet, result: Accuracy) -> dict[str, Any]:
    images = labelled.images
    facts: dict[str, Any] = {
        "images": result.images,
        "classes": len(images.class_names),
        "top1": result.top1,
        "top5": result.top5,
        "loss": result.loss,
        "ece": result.ece,
        "images_per_second": result.images_per_second,
    }
    if tuple(images.class_names) == wnids() and "ILSVRC2012_val_" in _first_name(images):
        names = [images.name(position) for position in result.positions.tolist()]
        real = real_accuracy(names, result.likeliest)
        if real is not None:
            facts["top1_real"], facts["images_real"] = real
    return facts


def _report(
    facts: dict[str, Any],
    labelled: LabelledSet,
    result: Accuracy,
    console: Console,
    *,
    json: bool,
    output: Optional[str],
) -> None:
    names = labelled.images.class_names
    if output is not None:
        _write(Path(output), facts, result, names)
    if json:
        print(jsonlib.dumps(facts, indent=1, ensure_ascii=False))
        return
    console.print(_table(facts, result, names))
    if output is not None:
        console.print(f"per-class results in {output}", highlight=False, soft_wrap=True)


def _report_corruptions(
    facts: dict[str, Any],
    sets: dict[str, dict[int, LabelledSet]],
    measure: _Measure,
    processes: Processes,
    console: Console,
    *,
    json: bool,
    output: Optional[str],
) -> int:
    top1 = {
        corruption: {severity: measure(one).top1 for severity, one in by_severity.items()}
        for corruption, by_severity in sets.items()
    }
    if not processes.first:
        return 0
    errors = corruption_errors(top1)
    facts |= {
        "mce": mean_corruption_error(errors),
        "corruptions": {
            name: {"ce": errors[name], "top1": list(by_severity.values())} for name, by_severity in top1.items()
        },
    }
    if output is not None:
        Path(output).mkdir(parents=True, exist_ok=True)
        _write_json(Path(output), facts)
    if json:
        print(jsonlib.dumps(facts, indent=1, ensure_ascii=False))
        return 0
    table = Table("corruption", "CE", "top-1 by severity", title=f"{facts['checkpoint']} on {facts['data']}")
    for name, by_severity in top1.items():
        table.add_row(name, f"{errors[name]:.1f} %", "  ".join(f"{value:.1f}" for value in by_severity.values()))
    table.add_row("[bold]mCE", f"[bold]{facts['mce']:.1f} %", _beside(facts))
    console.print(table)
    return 0


def _table(facts: dict[str, Any], result: Accuracy, class_names: tuple[str, ...]) -> Table:
    table = Table(title=f"{facts['checkpoint']} on {facts['data']}", show_header=False, title_justify="left")
    height, width = facts["image_size"]
    table.add_row("images", f"{result.images} of {facts['classes']} classes at {height}x{width}")
    table.add_row("top-1", f"[bold]{result.top1:.2f} %[/]{_beside(facts)}")
    table.add_row("top-5", f"{result.top5:.2f} %")
    if "top1_real" in facts:
        table.add_row("top-1, ReaL labels", f"{facts['top1_real']:.2f} % of {facts['images_real']} images")
    table.add_row("loss", f"{result.loss:.4f}")
    table.add_row("calibration error", f"{result.ece:.2f} %")
    table.add_row("speed", f"{result.images_per_second:.0f} images/s a process, loading included")
    totals, right = result.confusion.sum(1), result.confusion.diagonal()
    shares = [(int(r) / int(n), name) for r, n, name in zip(right, totals, class_names, strict=True) if n > 0]
    worst = [f"{name} {100 * share:.1f} %" for share, name in sorted(shares)[:_WORST] if share < 1]
    table.add_row("lowest classes", ", ".join(worst) or "all are right")
    return table


def _beside(facts: dict[str, Any]) -> str:
    """The published numbers, in words."""
    known = ", ".join(f"{name} {value:g} %" for name, value in facts["published"].items())
    return f"  (published: {known})" if known else ""


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("evaluating"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _write(folder: Path, facts: dict[str, Any], result: Accuracy, class_names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_per_class(folder / "per_class.csv", result.confusion, class_names)
    _write_json(folder, facts)
    if can_draw():
        draw_confusion(folder / "confusion.png", result.confusion, class_names)


def _write_json(folder: Path, facts: dict[str, Any]) -> None:
    (folder / "result.json").write_text(jsonlib.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
