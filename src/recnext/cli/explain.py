"""`recnext explain`: where a network looks in an image, and what each level of its recursion adds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional
from unicodedata import normalize

import torch
from torch import Tensor

from recnext.checkpoints import load
from recnext.engine.devices import choose_device
from recnext.engine.figures import require_drawing
from recnext.errors import RecNextError
from recnext.files import require_outputs
from recnext.screen import Screen
from recnext.study.analysis.explanation import Explanation, Levels, explain, percent
from recnext.study.draw.levels import draw_classes, draw_levels
from recnext.tasks.classification.predict import ClassScore

from .shared import SMALLEST_IMAGE, make_table, print_json, require_at_least


def run(
    image: str,
    *,
    checkpoint: Optional[str] = None,
    model: Optional[str] = None,
    pretrained: bool = False,
    ema: bool = False,
    topk: int = 3,
    classes: Optional[str] = None,
    stage: Optional[int] = None,
    block: Optional[str] = None,
    channel: Optional[int] = None,
    image_size: Optional[int] = None,
    device: str = "auto",
    output: Path = Path("explanation"),
    json: bool = False,
    overwrite: bool = False,
) -> int:
    """Draws where a network looks for its likeliest classes, and what each level of a recursive block adds.

    grad_cam.png: Grad-CAM over the image, a panel for each class. levels.png: a RecConv or RecAttn block as terms
    that add up to its output: the feature of each level, what it adds at full size, the radially averaged power of
    that, and the share of each level in every block of the network.

    Args:
        image: file or http(s) address.
        checkpoint: weight file, run folder or hub id.
        model: a timm name, where the checkpoint does not name it.
        pretrained: the published weights of --model.
        ema: take the moving average of the weights.
        topk: classes to explain, the likeliest first.
        classes: names or indices with commas, instead of the likeliest.
        stage: whose map Grad-CAM weighs; by default the last with 4x4 positions or more.
        block: name of the block, or of the stage it is first in, such as stages.1.blocks.0; by default the first.
        channel: of that block to draw; by default the one that varies most.
        image_size: side of the image in pixels; by default that of the weights.
        device: auto, cpu, cuda, cuda:N or mps.
        output: folder for the pictures.
        json: print JSON instead of tables.
        overwrite: replace files that this command did not write.
    """
    require_drawing("recnext explain")
    require_at_least(1, topk=topk)
    require_at_least(0, channel=channel)
    require_at_least(SMALLEST_IMAGE, image_size=image_size)
    require_outputs(output, ("grad_cam.png", "levels.png"), overwrite=overwrite, inputs=[image])
    network = _load(model, checkpoint=checkpoint, pretrained=pretrained, ema=ema, device=device)
    found = explain(
        network, image, choose=lambda scores: scores[:topk] if classes is None else _named(scores, classes),
        image_size=image_size, stage=stage, block=block, channel=channel, device=choose_device(device),
    )  # fmt: skip
    drawn = _draw(found, output, image.rstrip("/").rpartition("/")[2])
    if json:
        print_json(_to_json(image, found))
    else:
        _print(found, type(network).__name__)
    Screen(stderr=True).print(f"drew {drawn}")
    return 0


def _load(model: Optional[str], *, checkpoint: Optional[str], pretrained: bool, ema: bool, device: str) -> Any:
    if checkpoint is None and not pretrained:
        raise RecNextError(
            "no weights are given, and random ones explain nothing: add --checkpoint FILE, or --model NAME --pretrained"
        )
    return load(model, checkpoint=checkpoint, pretrained=pretrained, ema=ema, device=choose_device(device))


def _named(scores: Sequence[ClassScore], wanted: str) -> list[ClassScore]:
    """The classes of a list with commas, by name or by index; a name may have commas itself."""
    known = {normalize("NFC", score.name): score for score in scores} | {str(score.index): score for score in scores}
    parts = [part.strip() for part in normalize("NFC", wanted).split(",")]
    found = []
    while parts:
        taken = next((n for n in range(len(parts), 0, -1) if ", ".join(parts[:n]) in known), None)
        if taken is None:
            raise RecNextError(f"no class is called {parts[0]!r}: expected a name, or an index below {len(scores)}")
        found.append(known[", ".join(parts[:taken])])
        del parts[:taken]
    return found


def _draw(found: Explanation, folder: Path, name: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    draw_classes(folder / "grad_cam.png", found, f"{name}, Grad-CAM of stage {found.stage}")
    if found.levels is None:
        return str(folder / "grad_cam.png")
    text = f"{name}, {found.levels.block}, channel {found.levels.channel}"
    draw_levels(folder / "levels.png", found.levels, text)
    return f"{folder / 'grad_cam.png'} and levels.png"


def _to_json(image: str, found: Explanation) -> dict[str, Any]:
    levels = found.levels
    return {
        "image": image,
        "grad_cam_stage": found.stage,
        "classes": [
            {"index": score.index, "name": score.name, "probability": score.probability, "strongest": _peak(one)}
            for score, one in zip(found.classes, found.heat, strict=True)
        ],
        "levels": None if levels is None else {"block": levels.block, "terms": _terms(levels), "shares": levels.shares},
    }


def _terms(levels: Levels) -> list[dict[str, Any]]:
    *spectra, _ = levels.spectra
    return [
        {
            "level": part.level,
            "feature": list(part.feature.shape[1:]),
            "share": share,
            "frequencies": frequencies.tolist(),
            "power": power.tolist(),
        }
        for part, share, (frequencies, power) in zip(levels.parts.levels, levels.parts.shares(), spectra, strict=True)
    ]


def _peak(heat: Tensor) -> Optional[list[int]]:
    """Row and column of the hottest pixel; None where all are cold."""
    if float(heat.max()) <= 0:
        return None
    return [int(place) for place in torch.unravel_index(heat.argmax(), heat.shape)]


def _print(found: Explanation, network: str) -> None:
    table = make_table("class", "probability", "strongest at", title="Where the network looks")
    for score, one in zip(found.classes, found.heat, strict=True):
        peak = _peak(one)
        place = "nowhere" if peak is None else f"row {peak[0]}, column {peak[1]}"
        table.add_row(score.name, f"{score.probability:.1%}", place)
    screen = Screen()
    screen.print(table)
    if found.levels is None:
        screen.print(f"{network} has no recursive token mixer (RecConv, RecAttn): no levels to show")
        return
    headings = ("level", "feature", "share of the variance", "mean frequency")
    table = make_table(*headings, text=0, title=f"What each level of {found.levels.block} adds")
    table.caption = "mean frequency: of the term, weighed by power, in cycles per position"
    for term in _terms(found.levels):
        total = sum(term["power"])
        weighed = sum(f * p for f, p in zip(term["frequencies"], term["power"], strict=True))
        mean = f"{weighed / total:.3f}" if total > 0 else "-"
        table.add_row(str(term["level"]), "x".join(map(str, term["feature"])), percent(term["share"]), mean)
    screen.print(table)
