"""`recnext info`: one network, stage by stage."""

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

import timm
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from recnext.checkpoints import load
from recnext.checkpoints.architecture import read_architecture
from recnext.checkpoints.loading import check_name
from recnext.checkpoints.published import published
from recnext.nn.fusion import fuse
from recnext.study.analysis.cost import count_parameters
from recnext.study.analysis.stages import read_stages

from .shared import parse_size


def run(model: str, *, size: Optional[str] = None, checkpoint: Optional[str] = None, json: bool = False) -> int:
    """Shows a network: stages with shapes, parameters, MACs and receptive fields; published accuracy.

    Args:
        model: a timm name, such as recnext_m1; or a weight file or run folder, whose network to show.
        size: of the image, N or HxW; by default the one the network was made for.
        checkpoint: weight file, run folder or hub id of that network.
        json: print JSON.
    """
    if checkpoint is not None:
        network = load(model, checkpoint=checkpoint, device="meta")
    elif Path(model).exists():
        network = load(checkpoint=model, device="meta")
    else:
        check_name(model)
        network = timm.create_model(model, device="meta")
    height, width = parse_size(size) if size else network.pretrained_cfg["input_size"][1:]  # type: ignore[index]
    report = describe(network, (height, width))
    if json:
        print(jsonlib.dumps(report, indent=1, default=list))
    else:
        _print(report)
    return 0


def describe(network: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    """All that is shown of a network, as ``--json`` prints it."""
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    fused = fuse(network)
    stages = read_stages(fused, size)
    own = read_stages(network, size)
    name = config["architecture"]
    return {
        "name": name,
        "image_size": list(size),
        "parameters": count_parameters(network),
        "fused_parameters": count_parameters(fused),
        "macs": sum(stage.macs for stage in stages),
        "num_classes": network.num_classes,
        "class_names": config.get("label_names"),
        "preparation": {key: config.get(key) for key in ("mean", "std", "crop_pct", "interpolation")},
        "license": config.get("license"),
        "published": _published(network, name),
        "stages": [
            {**asdict(stage), "parameters": unfused.parameters, "fused_parameters": stage.parameters}
            for stage, unfused in zip(stages, own, strict=True)
        ],
    }


def _published(network: nn.Module, name: str) -> dict[str, Any]:
    """The published results, where the network is the published one and not a narrower one, or for other classes."""
    found = read_architecture(network.state_dict())
    known = found is not None and (found.name, found.num_classes) == (name, 1000)
    return published()["classification"].get(name, {}) if known else {}


def _print(report: dict[str, Any]) -> None:
    height, width = report["image_size"]
    table = Table(box=box.SIMPLE, title=f"{report['name']} at {height}x{width}", title_justify="left")
    table.add_column("part")
    for title in ("output", "params", "fused", "MACs M", "receptive field"):
        table.add_column(title, justify="right")
    for stage in report["stages"]:
        field = stage["receptive_field"]
        spatial = len(stage["shape"]) == 3
        table.add_row(
            stage["name"],
            "x".join(map(str, stage["shape"])),
            f"{stage['parameters']:,}",
            f"{stage['fused_parameters']:,}",
            f"{stage['macs'] / 1e6:.1f}",
            ("whole image" if field is None else f"{field} px") if spatial else "",
        )
    table.add_section()
    table.add_row(
        "all", "", f"{report['parameters']:,}", f"{report['fused_parameters']:,}", f"{report['macs'] / 1e6:.1f}", ""
    )
    console = Console()
    console.print(table)
    result = report["published"]
    if result:
        console.print(
            f"published ImageNet-1k top-1: {result['top1_base']} (base), {result['top1_distilled']} (distilled); "
            f"licence {report['license']}",
            highlight=False,
        )
    console.print("MACs: convolutions and matrix products of the fused network.", highlight=False)
