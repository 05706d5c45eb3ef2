"""`recnext explain`: where a network looks in an image, and what each level of its recursion adds."""

import json as jsonlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from recnext.checkpoints import load
from recnext.data import normalise
from recnext.data.images import Unreadable
from recnext.engine.devices import choose_device
from recnext.errors import RecNextError
from recnext.study.analysis.levels import Decomposition, decompose_network, radial_power, recursive_mixers
from recnext.tasks.classification.activation_maps import class_activation_maps, default_stage
from recnext.tasks.classification.evaluate import preparation_of
from recnext.tasks.classification.predict import ClassScore, classify

from .explain_plots import draw_classes, draw_levels, percent
from .pictures import open_named, require_drawing, resize_network
from .shared import SMALLEST_IMAGE, progress_bar, require_at_least


@dataclass(frozen=True, kw_only=True)
class Levels:
    """One recursive mixer taken apart, and what levels add in all of them.

    Attributes:
        block: name of that mixer.
        parts: its terms.
        shares: by level, for every mixer of the network in order.
        spectra: frequencies (cycles per position) and power of every term, finest level first, then the output.
    """

    block: str
    parts: Decomposition
    shares: dict[str, list[float]]
    spectra: list[tuple[Tensor, Tensor]]


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
) -> int:
    """Draws where a network looks for its likeliest classes, and what each level of a recursive block adds.

    grad_cam.png: Grad-CAM over the image, a panel for each class. levels.png: a RecConv or RecAttn block taken
    apart into terms that add up to its output: the feature of each level, what it adds at full size, the
    radially averaged power of that, and the share of each level in every block of the network.

    Args:
        image: file or http(s) address.
        checkpoint: weight file, run folder or hub id.
        model: a timm name, where the checkpoint does not tell it.
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
    """
    if checkpoint is None and not pretrained:
        raise RecNextError(
            "no weights are given, and random ones explain nothing: add --checkpoint FILE, or --model NAME --pretrained"
        )
    require_at_least(1, topk=topk)
    require_drawing("recnext explain")
    require_at_least(0, channel=channel)
    require_at_least(SMALLEST_IMAGE, image_size=image_size)
    if output.exists() and not output.is_dir():
        raise RecNextError(f"{output} is a file: --output expects a folder")
    target = choose_device(device)
    network = load(model, checkpoint=checkpoint, pretrained=pretrained, ema=ema, device=target)
    preparation = preparation_of(network, image_size=image_size)
    resize_network(network, preparation.size)
    scores = _scores(network, image, preparation.size)
    chosen = scores[:topk] if classes is None else _named(scores, classes)
    pixels = preparation.evaluation_transform()(open_named(image))
    x = normalise(pixels[None], mean=preparation.mean, std=preparation.std, device=target)

    with progress_bar() as bar:
        task = bar.add_task("Grad-CAM", total=2)
        where = default_stage(network, x) if stage is None else stage
        heat = class_activation_maps(network, x, [score.index for score in chosen], stage=where)
        bar.update(task, advance=1, description="levels")
        levels = _levels(network, x, block=block, channel=channel)
        bar.advance(task)

    name = image.rstrip("/").rpartition("/")[2]
    output.mkdir(parents=True, exist_ok=True)
    draw_classes(output / "grad_cam.png", pixels, heat, chosen, f"{name}, Grad-CAM of stage {where}")
    if levels is not None:
        shown = _busiest(levels.parts) if channel is None else channel
        draw_levels(output / "levels.png", levels, channel=shown, caption=f"{name}, {levels.block}, channel {shown}")
    if json:
        print(jsonlib.dumps(_report(image, chosen, heat, where, levels), indent=1, ensure_ascii=False))
    else:
        _print(chosen, heat, levels, network)
    print(f"drew {output / 'grad_cam.png'}{' and levels.png' if levels is not None else ''}", file=sys.stderr)
    return 0


def _scores(network: nn.Module, image: str, size: tuple[int, int]) -> tuple[ClassScore, ...]:
    """Every class of the network, the likeliest first."""
    classes = int(getattr(network, "num_classes", 0) or 0)
    result = next(iter(classify(network, [image], topk=max(classes, 1), image_size=size, workers=1)))
    if isinstance(result, Unreadable):
        raise RecNextError(f"cannot read {image}: {result.reason}")
    return result.classes


def _named(scores: Sequence[ClassScore], wanted: str) -> list[ClassScore]:
    """The classes of a list with commas, by name or by index."""
    found = []
    for text in (part.strip() for part in wanted.split(",")):
        score = next((one for one in scores if text in (one.name, str(one.index))), None)
        if score is None:
            raise RecNextError(f"no class is called {text!r}: expected a name, or an index below {len(scores)}")
        found.append(score)
    return found


def _levels(network: nn.Module, x: Tensor, *, block: Optional[str], channel: Optional[int]) -> Optional[Levels]:
    if block is None and channel is None and not recursive_mixers(network):
        return None
    shares, name, parts = decompose_network(network, x, block=block)
    count = parts.output.shape[1]
    if channel is not None and channel >= count:
        raise RecNextError(f"--channel is {channel}: {name} has {count} channels, counted from 0")
    terms = [level.added for level in parts.levels] + [parts.output]
    return Levels(block=name, parts=parts, shares=shares, spectra=[radial_power(term) for term in terms])


def _busiest(parts: Decomposition) -> int:
    """The channel whose output varies most over positions."""
    return int((parts.output - parts.constant)[0].flatten(1).var(1).argmax())


def _report(
    image: str, chosen: Sequence[ClassScore], heat: Tensor, stage: int, levels: Optional[Levels]
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "image": image,
        "grad_cam_stage": stage,
        "classes": [
            {
                "index": score.index,
                "name": score.name,
                "probability": score.probability,
                "strongest": _peak(one),
            }
            for score, one in zip(chosen, heat, strict=True)
        ],
        "levels": None,
    }
    if levels is not None:
        report["levels"] = {
            "block": levels.block,
            "terms": [
                {
                    "level": part.level,
                    "feature": list(part.feature.shape[1:]),
                    "share": share,
                    "frequencies": frequencies.tolist(),
                    "power": power.tolist(),
                }
                for part, share, (frequencies, power) in zip(
                    levels.parts.levels, levels.parts.shares(), levels.spectra, strict=False
                )
            ],
            "shares": levels.shares,
        }
    return report


def _peak(heat: Tensor) -> Optional[list[int]]:
    """Row and column of the hottest pixel; None where all are cold."""
    if float(heat.max()) <= 0:
        return None
    return [int(place) for place in torch.unravel_index(heat.argmax(), heat.shape)]


def _print(chosen: Sequence[ClassScore], heat: Tensor, levels: Optional[Levels], network: nn.Module) -> None:
    console = Console()
    rows = Table(box=box.SIMPLE_HEAD, title="Where the network looks", pad_edge=False)
    for heading in ("class", "probability", "strongest at"):
        rows.add_column(heading, justify="left" if heading == "class" else "right")
    for score, one in zip(chosen, heat, strict=True):
        peak = _peak(one)
        place = "nowhere" if peak is None else f"row {peak[0]}, column {peak[1]}"
        rows.add_row(score.name, f"{score.probability:.1%}", place)
    console.print(rows)
    if levels is None:
        console.print(f"{type(network).__name__} has no recursive token mixer (RecConv, RecAttn): no levels to show")
        return
    rows = Table(box=box.SIMPLE_HEAD, title=f"What each level of {levels.block} adds", pad_edge=False)
    for heading in ("level", "feature", "share of the variance", "mean frequency"):
        rows.add_column(heading, justify="right")
    for part, share, (frequencies, power) in zip(
        levels.parts.levels, levels.parts.shares(), levels.spectra, strict=False
    ):
        total = float(power.sum())
        mean = f"{float((frequencies * power).sum()) / total:.3f}" if total > 0 else "-"
        rows.add_row(str(part.level), "x".join(map(str, part.feature.shape[1:])), percent(share), mean)
    rows.caption = "mean frequency: of the term, weighed by power, in cycles per position"
    console.print(rows)
