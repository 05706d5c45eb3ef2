"""Tables of `recnext detect`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from rich.table import Table

from recnext.checkpoints.published import published
from recnext.study.demo.detection import DetectDemo
from recnext.tasks.detection.evaluate import DetectionResult
from recnext.tasks.detection.metrics import NUMBERS

_SHOWN = 40  # classes shown; per_class.csv has all
_COCO_CLASSES = 80
_TEXTS = {
    "ap": "AP, IoU .50 to .95",
    "ap50": "AP at IoU .50",
    "ap75": "AP at IoU .75",
    "ap_small": "AP, objects under 32² px",
    "ap_medium": "AP, 32² to 96² px",
    "ap_large": "AP, over 96² px",
    "ar1": "AR, 1 detection an image",
    "ar10": "AR, 10",
    "ar100": "AR, 100",
    "ar_small": "AR, objects under 32² px",
    "ar_medium": "AR, 32² to 96² px",
    "ar_large": "AR, over 96² px",
}


def result_tables(
    facts: Mapping[str, Any], result: DetectionResult, class_names: tuple[str, ...]
) -> tuple[Table, Table]:
    """COCO's twelve numbers, the published ones beside where there are any, and a line a class."""
    kinds = [("box", result.box), *([] if result.mask is None else [("mask", result.mask)])]
    reference = published_ap(facts)
    whole = Table(title=f"COCO's numbers, {facts['images']} images", title_justify="left")
    whole.add_column("%")
    for kind, _ in kinds:
        whole.add_column(kind, justify="right")
        if reference is not None:
            whole.add_column(f"{kind}, published", justify="right")
    for name in NUMBERS:
        row = []
        for kind, part in kinds:
            row.append(_percent(part.numbers[name]))
            if reference is not None:
                value = reference.get(f"{name}_{kind}")
                row.append("" if value is None else f"{value:.1f}")
        whole.add_row(_TEXTS[name], *row)
    classes = Table(title="By class", title_justify="left")
    classes.add_column("class")
    for kind, _ in kinds:
        classes.add_column(f"{kind} AP", justify="right")
        classes.add_column(f"{kind} AP50", justify="right")
    for index, name in enumerate(class_names[:_SHOWN]):
        values = [value for _, part in kinds for value in (part.per_class[index], part.per_class50[index])]
        classes.add_row(name, *map(_percent, values))
    if len(class_names) > _SHOWN:
        classes.add_row(f"and {len(class_names) - _SHOWN} more")
    return whole, classes


def demo_table(demo: DetectDemo, folder: Path) -> Table:
    """What the demo reached, and where its files are."""
    table = Table(title="Mask R-CNN on synthetic scenes", show_header=False, title_justify="left")
    box, mask = demo.result.box, demo.result.mask
    assert mask is not None
    images = demo.result.images
    table.add_row("held-out box AP50", f"[bold]{box.numbers['ap50']:.2f} %[/] of {images} scenes")
    table.add_row("box AP, mask AP50, mask AP", _listed(box.numbers["ap"], mask.numbers["ap50"], mask.numbers["ap"]))
    classes = zip(demo.class_names, box.per_class50, strict=True)
    table.add_row("box AP50 of each class", ", ".join(f"{name} {_percent(value)}" for name, value in classes))
    table.add_row("after folding", f"box AP50 {demo.fused.box.numbers['ap50']:.2f} %")
    before, after = demo.parameters
    table.add_row("parameters", f"{before:,} → {after:,} folded")
    table.add_row("training", f"{demo.training_seconds:.0f} s")
    for name, text in (
        ("best.safetensors", "weights"),
        ("curves.png", "loss, accuracy, learning rate"),
        ("samples.png", "held-out scenes: annotations above, detections below"),
        ("evaluation/per_class.csv", "average precision of every class"),
        ("evaluation/detections.json", "all detections, as a COCO results file"),
    ):
        if (folder / name).exists():
            table.add_row(str(folder / name), text)
    return table


def published_ap(facts: Mapping[str, Any]) -> Optional[dict[str, float]]:
    """The published numbers of the backbone, where the data may be COCO's 80 classes."""
    if facts["classes"] != _COCO_CLASSES:
        return None
    return published()["coco_mask_rcnn_1x"].get(str(facts["backbone"]).partition(".")[0])


def _listed(*values: float) -> str:
    return ", ".join(f"{_percent(value)} %" for value in values)


def _percent(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"
