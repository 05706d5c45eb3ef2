"""`recnext erf`: effective receptive fields of networks, side by side."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Optional

from rich.table import Table

from recnext.engine.devices import choose_device
from recnext.engine.figures import require_drawing
from recnext.errors import RecNextError
from recnext.files import require_output
from recnext.screen import Screen
from recnext.study.analysis.erf_growth import Growth, growth
from recnext.study.analysis.fields import Field, FieldSettings, NetworkSource, measure_field
from recnext.study.draw.fields import draw_fields

from .shared import make_table, parse_size, print_json, progress_bar, require_at_least, set_threads

DEFAULT = ("recnext_m3", "repvit_m1_1", "fastvit_t12", "convnext_tiny", "vit_tiny_patch16_224")
_LEVELS = 4  # of RecConv's growth
_ABOUT = {"image": "the image", "mass": "mass of each map"}


def run(
    models: list[str] = [],  # noqa: B006 (never changed)
    *,
    checkpoint: Optional[str] = None,
    pretrained: bool = False,
    images: Optional[str] = None,
    count: int = 20,
    size: Optional[str] = None,
    stage: int = -1,
    centre: Literal["image", "mass"] = "image",
    areas: Literal["linear", "log"] = "linear",
    seed: int = 0,
    device: str = "auto",
    threads: Optional[int] = None,
    output: Path = Path("erf.png"),
    json: bool = False,
    overwrite: bool = False,
) -> int:
    """Measures effective receptive fields: how much each pixel moves the centre of a network's last map.

    The measure of RepLKNet: the centre's channels, through a ReLU, are summed and differentiated by the image; the
    positive part of the gradient is summed over colours and averaged over images. Beside the maps (log scale) stand
    the smallest squares that hold 20, 30, 50 and 99 % of the contribution, the span of a token mixer in every stage,
    and how RecConv's field grows with its level. Networks without trained weights are named untrained.

    Args:
        models: timm names, weight files or run folders; by default RecNeXt-M3, RepViT-M1.1, FastViT-T12, ConvNeXt-T
            and ViT-Ti/16.
        checkpoint: weights for the one network named, or for the one it tells itself.
        pretrained: the published weights of every name.
        images: file, folder or pattern; without it, random noise.
        count: images, or draws of noise.
        size: of the images, N or HxW in pixels; by default that of a run's training, 224 for names.
        stage: whose map's centre is taken, counted from 0, or from the end.
        centre: middle of the squares: of the image, as published, or the map's own centre of mass.
        areas: measured on the contributions, or on log10(1 + contribution), which depends on the scale.
        seed: of random weights and noise.
        device: auto, cpu, cuda, cuda:N or mps.
        threads: CPU threads; by default torch's.
        output: PNG to draw.
        json: print JSON instead of a table.
        overwrite: replace files that this command did not write.
    """
    require_output(output, overwrite=overwrite)
    _check(count, seed, threads)
    settings = FieldSettings(
        images=images, count=count, size=parse_size(size) if size else None, stage=stage,
        centre=centre, areas=areas, seed=seed, device=choose_device(device),
    )  # fmt: skip
    fields, grown = _measure(_subjects(models, checkpoint, pretrained), settings)
    shown = "; ".join(dict.fromkeys(field.images for field in fields))
    setting = f"{shown}, stage {stage}; squares about the centre of {_ABOUT[centre]}, {areas}"
    if json:
        print_json(_to_json(fields, grown, setting))
    else:
        Screen().print(_field_table(fields, setting), _growth_table(grown))
    draw_fields(output, fields, grown, setting)
    Screen(stderr=True).print(f"drew {output}")
    return 0


def _check(count: int, seed: int, threads: Optional[int]) -> None:
    require_at_least(1, count=count)
    require_at_least(0, seed=seed)
    require_drawing("recnext erf")
    set_threads(threads)


def _subjects(models: Sequence[str], checkpoint: Optional[str], pretrained: bool) -> list[NetworkSource]:
    if checkpoint is None:
        found = [(None, model) if Path(model).exists() else (model, None) for model in models or DEFAULT]
        return [NetworkSource(name=name, checkpoint=file, pretrained=pretrained and not file) for name, file in found]
    if len(models) > 1:
        raise RecNextError(
            f"--checkpoint is for one network, {len(models)} are named: name weight files among MODELS instead"
        )
    if pretrained:
        raise RecNextError("--checkpoint and --pretrained are both given: take one")
    return [NetworkSource(name=models[0] if models else None, checkpoint=checkpoint, pretrained=False)]


def _measure(subjects: Sequence[NetworkSource], settings: FieldSettings) -> tuple[list[Field], list[Growth]]:
    fields, grown = [], []
    with progress_bar() as bar:
        task = bar.add_task("", total=settings.count * len(subjects) + _LEVELS + 1)
        for number, subject in enumerate(subjects, 1):
            bar.update(task, description=subject.name or str(subject.checkpoint))
            fields.append(measure_field(subject, settings, on_images=lambda done: bar.advance(task, done)))
            bar.update(task, completed=settings.count * number)  # there may be fewer images
        bar.update(task, description="levels")
        for step in growth(levels=_LEVELS):
            grown.append(step)
            bar.advance(task)
    return fields, grown


def _to_json(fields: Sequence[Field], grown: Sequence[Growth], setting: str) -> dict[str, Any]:
    return {
        "setting": setting,
        "fields": [
            {
                "model": field.model,
                "weights": field.weights,
                "untrained": field.weights == "untrained",
                "images": field.images,
                "contributions": [asdict(contribution) for contribution in field.contributions],
                "centre": list(field.centre),
                "offset": list(field.offset),
                "mixer_spans": [{**asdict(span), "pixels": span.pixels} for span in field.spans],
            }
            for field in fields
        ],
        "growth": [asdict(step) for step in grown],
    }


def _field_table(fields: Sequence[Field], setting: str) -> Table:
    untrained = any(field.weights == "untrained" for field in fields)
    table = make_table(
        *("network", "weights", *(f"{one.share:.0%}" for one in fields[0].contributions), "off\ncentre"),
        text=2,
        title=f"Effective receptive fields{', some of untrained networks' if untrained else ''}",
        caption="side in pixels of the smallest square that holds a share of the contribution, and its part of the "
        f"image; off centre: rows and columns from the middle to the centre of mass\n{setting}",
    )
    for field in fields:
        squares = (f"{one.side} {one.area:.0%}" for one in field.contributions)
        offset = " ".join(f"{round(step):+d}" for step in field.offset)
        table.add_row(field.model, field.weights, *squares, offset)
    return table


def _growth_table(grown: Sequence[Growth]) -> Table:
    headings = ("level l", "k·2^l", "20%", "30%", "50%", "99%", "any influence")
    table = make_table(*headings, text=0, title="RecConv 5x5 with averaging kernels, in pixels of its map")
    for step in grown:
        table.add_row(*map(str, (step.level, step.law, *step.sides, step.reach)))
    return table
