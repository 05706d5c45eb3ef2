"""`recnext info`: one network, stage by stage."""

from pathlib import Path
from typing import Any, Optional

import timm

from recnext.checkpoints import load
from recnext.checkpoints.loading import check_name
from recnext.screen import Screen
from recnext.study.analysis.stages import network_facts

from .shared import make_table, parse_size, print_json


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
    facts = network_facts(network, (height, width))
    if json:
        print_json(facts, default=list)
    else:
        _print(facts)
    return 0


def _print(facts: dict[str, Any]) -> None:
    height, width = facts["image_size"]
    headings = ("part", "output", "params", "fused", "MACs M", "receptive field")
    table = make_table(*headings, title=f"{facts['name']} at {height}x{width}")
    for stage in facts["stages"]:
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
    totals = (f"{facts['parameters']:,}", f"{facts['fused_parameters']:,}", f"{facts['macs'] / 1e6:.1f}")
    table.add_row("all", "", *totals, "")
    screen = Screen()
    screen.print(table)
    result = facts["published"]
    if result:
        screen.print(
            f"published ImageNet-1k top-1: {result['top1_base']} (base), {result['top1_distilled']} (distilled); "
            f"licence {facts['license']}"
        )
    screen.print("MACs: convolutions and matrix products of the fused network.")
