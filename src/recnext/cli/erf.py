"""`recnext erf`: effective receptive fields of networks, side by side."""

import json as jsonlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Optional

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from recnext.checkpoints import load
from recnext.engine.devices import choose_device
from recnext.errors import RecNextError
from recnext.study.analysis.erf import (
    Contribution,
    centre_of_mass,
    contribution_areas,
    effective_receptive_field,
    settle_norms,
)
from recnext.study.analysis.erf_growth import Growth, growth
from recnext.study.analysis.mixer_span import Span, mixer_spans

from .erf_plots import draw
from .pictures import ImageBatches, image_batches, require_drawing, resize_network
from .shared import parse_size, progress_bar, require_at_least

DEFAULT = ("recnext_m3", "repvit_m1_1", "fastvit_t12", "convnext_tiny", "vit_tiny_patch16_224")
_GROWTH_LEVELS = 4


@dataclass(frozen=True, kw_only=True)
class Field:
    """The effective receptive field of one network.

    Attributes:
        model: its name.
        weights: where they come from, or "untrained".
        weights_map: (H, W) float64, the contribution of every pixel.
        contributions: squares that hold given shares.
        centre: row and column of the middle of those squares.
        offset: rows and columns from the middle of the image to the map's centre of mass.
        spans: of its token mixers.
    """

    model: str
    weights: str
    weights_map: Tensor
    contributions: list[Contribution]
    centre: tuple[int, int]
    offset: tuple[float, float]
    spans: list[Span]


def run(
    models: list[str] = [],  # noqa: B006 (never changed)
    *,
    checkpoint: Optional[str] = None,
    pretrained: bool = False,
    images: Optional[str] = None,
    count: int = 20,
    size: str = "224",
    stage: int = -1,
    centre: Literal["image", "mass"] = "image",
    areas: Literal["linear", "log"] = "linear",
    seed: int = 0,
    device: str = "auto",
    threads: Optional[int] = None,
    output: Path = Path("erf.png"),
    json: bool = False,
) -> int:
    """Measures effective receptive fields: how much each pixel moves the centre of a network's last map.

    The measure of RepLKNet: the centre's channels, through a ReLU, are summed and differentiated by the image; the
    positive part of the gradient is summed over colours and averaged over images. Beside the maps, which
    are drawn on a log scale relative to each one's largest value, stand the side of the smallest square that
    holds 20, 30, 50 and 99 % of the contribution, the span of one token mixer in every stage, and
    how RecConv's field grows with its level. Networks without trained weights are named untrained; their BatchNorms
    get the statistics of the images first.

    Args:
        models: timm names, weight files or run folders; by default RecNeXt-M3, RepViT-M1.1, FastViT-T12, ConvNeXt-T
            and ViT-Ti/16.
        checkpoint: weights for the one network named, or for the one it tells itself.
        pretrained: the published weights of every name.
        images: file, folder or pattern; without it, random noise.
        count: images, or draws of noise.
        size: of the images, N or HxW in pixels.
        stage: whose map's centre is taken, counted from 0, or from the end.
        centre: middle of the squares: of the image, as published, or the map's own centre of mass.
        areas: measured on the contributions, or on log10(1 + contribution), which depends on the scale.
        seed: of random weights and noise.
        device: auto, cpu, cuda, cuda:N or mps.
        threads: CPU threads; by default torch's.
        output: PNG to draw.
        json: print JSON instead of a table.
    """
    require_at_least(1, count=count, threads=threads)
    require_drawing("recnext erf")
    require_at_least(0, seed=seed)
    pixels = parse_size(size)
    if not output.parent.is_dir():
        raise RecNextError(f"cannot write {output}: there is no folder {output.parent}")
    if threads is not None:
        torch.set_num_threads(threads)
    target = choose_device(device)
    subjects = _subjects(models, checkpoint=checkpoint, pretrained=pretrained)
    fields, grown, what = [], [], ""
    with progress_bar() as bar:
        task = bar.add_task("", total=count * len(subjects) + _GROWTH_LEVELS + 1)
        for name, source in subjects:
            bar.update(task, description=name or str(source))
            torch.manual_seed(seed)
            network = load(name, checkpoint=source, pretrained=pretrained and source is None, device=target)
            resize_network(network, pixels)
            shown = image_batches(network, images, count=count, size=pixels, seed=seed, device=target)
            bar.update(task, total=shown.total * len(subjects) + _GROWTH_LEVELS + 1)
            what = shown.described
            trained = source is not None or pretrained
            weights_map = _measure(network, shown, trained, stage, lambda done: bar.advance(task, done))
            weights = source or ("published" if pretrained else "untrained")
            fields.append(_field(network, weights, weights_map, centre=centre, areas=areas))
        bar.update(task, description="levels")
        for step in growth(levels=_GROWTH_LEVELS):
            grown.append(step)
            bar.advance(task)

    setting = f"{pixels[0]}x{pixels[1]}, {what}, stage {stage}; squares about the centre of {_ABOUT[centre]}, {areas}"
    if json:
        print(jsonlib.dumps(report(fields, grown, setting), indent=1))
    else:
        Console().print(table(fields, setting))
        Console().print(growth_table(grown))
    draw(output, fields, grown, setting)
    print(f"drew {output}", file=sys.stderr)
    return 0


_ABOUT = {"image": "the image", "mass": "mass of each map"}


def _subjects(
    models: Sequence[str], *, checkpoint: Optional[str], pretrained: bool
) -> list[tuple[Optional[str], Optional[str]]]:
    """(name, checkpoint) of every network; one of them may be missing."""
    if checkpoint is not None:
        if len(models) > 1:
            raise RecNextError(
                f"--checkpoint is for one network, {len(models)} are named: name weight files among MODELS instead"
            )
        if pretrained:
            raise RecNextError("--checkpoint and --pretrained are both given: take one")
        return [(models[0] if models else None, checkpoint)]
    return [(None, model) if Path(model).exists() else (model, None) for model in models or DEFAULT]


def _measure(
    network: nn.Module,
    shown: ImageBatches,
    trained: bool,
    stage: int,
    on_batch: Callable[[int], None],
) -> Tensor:
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.requires_grad_(False)
    if not trained:
        settle_norms(network, islice(shown.batches(), 2))
    return effective_receptive_field(network, shown.batches(), stage=stage, on_batch=on_batch)


def _field(network: nn.Module, weights: str, weights_map: Tensor, *, centre: str, areas: str) -> Field:
    height, width = weights_map.shape
    row, column = centre_of_mass(weights_map)
    middle = (round(row), round(column)) if centre == "mass" else (height // 2, width // 2)
    measured = torch.log10(1 + weights_map) if areas == "log" else weights_map
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return Field(
        model=config.get("architecture") or type(network).__name__,
        weights=weights,
        weights_map=weights_map,
        contributions=contribution_areas(measured, centre=middle),
        centre=middle,
        offset=(row - (height - 1) / 2, column - (width - 1) / 2),
        spans=mixer_spans(network),
    )


def report(fields: Sequence[Field], grown: Sequence[Growth], setting: str) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "setting": setting,
        "fields": [
            {
                "model": field.model,
                "weights": field.weights,
                "untrained": field.weights == "untrained",
                "contributions": [asdict(contribution) for contribution in field.contributions],
                "centre": list(field.centre),
                "offset": list(field.offset),
                "mixer_spans": [{**asdict(span), "pixels": span.pixels} for span in field.spans],
            }
            for field in fields
        ],
        "growth": [asdict(step) for step in grown],
    }


def table(fields: Sequence[Field], setting: str) -> Table:
    """Side of the square and share of the image, by network."""
    untrained = any(field.weights == "untrained" for field in fields)
    rows = Table(
        title=f"Effective receptive fields{', some of untrained networks' if untrained else ''}",
        caption="side in pixels of the smallest square that holds a share of the contribution, and its part of the "
        f"image; off centre: rows and columns from the middle to the centre of mass\n{setting}",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    rows.add_column("network", overflow="fold", vertical="bottom")
    rows.add_column("weights", max_width=20, vertical="bottom")
    for contribution in fields[0].contributions:
        rows.add_column(f"{contribution.share:.0%}", justify="right", no_wrap=True, vertical="bottom")
    rows.add_column("off\ncentre", justify="right", no_wrap=True)
    for field in fields:
        rows.add_row(
            field.model,
            field.weights,
            *(f"{one.side} {one.area:.0%}" for one in field.contributions),
            " ".join(f"{round(step):+d}" for step in field.offset),
        )
    return rows


def growth_table(grown: Sequence[Growth]) -> Table:
    """RecConv level by level."""
    rows = Table(title="RecConv 5x5 with averaging kernels, in pixels of its map", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("level l", "k·2^l", "20%", "30%", "50%", "99%", "any influence"):
        rows.add_column(heading, justify="right")
    for step in grown:
        rows.add_row(str(step.level), str(step.law), *map(str, step.sides), str(step.reach))
    return rows
