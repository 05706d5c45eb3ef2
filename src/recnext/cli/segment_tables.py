"""Tables of `recnext segment`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from rich.table import Table

from recnext.checkpoints.published import published
from recnext.study.demo.segmentation import SegmentDemo
from recnext.tasks.segmentation.metrics import SegmentationResult

_SHOWN = 40  # classes shown; per_class.csv has all
_ADE_CLASSES = 150


def result_table(facts: Mapping[str, Any], result: SegmentationResult, class_names: tuple[str, ...]) -> Table:
    """The three measures, the published mIoU beside where there is one, and a line a class."""
    table = Table(title=f"{facts['checkpoint']} on {facts['data']}", title_justify="left")
    for name, justify in (("class", "left"), ("IoU %", "right"), ("accuracy %", "right"), ("share of pixels", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    shares = result.confusion.sum(1).double() / max(int(result.confusion.sum()), 1)
    for row in range(min(len(class_names), _SHOWN)):
        iou, accuracy = result.iou[row].item(), result.accuracy[row].item()
        table.add_row(class_names[row], _percent(iou), _percent(accuracy), f"{100 * shares[row].item():.1f} %")
    if len(class_names) > _SHOWN:
        table.add_row(f"and {len(class_names) - _SHOWN} more", "", "", "")
    table.add_section()
    way = f"window {facts['window']}" if facts["window"] else "whole"
    table.add_row(
        f"[bold]mean of {facts['images']} images, {way}", f"[bold]{result.miou:.2f}", f"{result.macc:.2f}", ""
    )
    table.add_row("all pixels (aAcc)", "", f"{result.aacc:.2f}", "")
    reference = published_miou(facts)
    if reference is not None:
        table.add_row(f"published, {facts['backbone']} on ADE20K", f"{reference:.1f}", "", "")
    return table


def demo_table(demo: SegmentDemo, folder: Path) -> Table:
    """What the demo reached, and where its files are."""
    table = Table(title="Semantic FPN on synthetic scenes", show_header=False, title_justify="left")
    table.add_row("held-out mIoU", f"[bold]{demo.result.miou:.2f} %[/] of {demo.result.images} scenes")
    table.add_row("mAcc, aAcc", f"{demo.result.macc:.2f} %, {demo.result.aacc:.2f} %")
    classes = zip(demo.class_names, demo.result.iou.tolist(), strict=True)
    table.add_row("IoU of each class", ", ".join(f"{name} {_percent(iou)}" for name, iou in classes))
    table.add_row("after folding", f"mIoU {demo.fused.miou:.2f} %")
    before, after = demo.parameters
    table.add_row("parameters", f"{before:,} → {after:,} folded")
    table.add_row("training", f"{demo.training_seconds:.0f} s")
    for name, text in (
        ("best.safetensors", "weights"),
        ("curves.png", "loss, accuracy, learning rate"),
        ("samples.png", "held-out scenes: image, truth, prediction"),
        ("evaluation/per_class.csv", "IoU and accuracy of every class"),
    ):
        if (folder / name).exists():
            table.add_row(str(folder / name), text)
    return table


def published_miou(facts: Mapping[str, Any]) -> Optional[float]:
    """The published mIoU of the backbone, where the data may be ADE20K's 150 classes."""
    if facts["classes"] != _ADE_CLASSES:
        return None
    entry = published()["ade20k_semantic_fpn"].get(str(facts["backbone"]).partition(".")[0])
    return None if entry is None else float(entry["miou"])


def _percent(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"
