"""Picture of `recnext erf`: maps on one colour scale, shares, spans and growth with level."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recnext.engine.figures import PALETTE, caption, drawn, figure
from recnext.study.analysis.erf import contribution_curve
from recnext.study.analysis.erf_growth import Growth
from recnext.study.analysis.fields import Field

_LEAST = 1e-3  # of a map's largest value: the dark end of the colour bar
_COLUMNS = 5
_MARKED = (0.5, 0.99)  # shares whose squares are drawn


def draw_fields(path: Path, fields: Sequence[Field], grown: Sequence[Growth], setting: str) -> None:
    """Draws the maps above, and below them what they hold, what token mixers span and how RecConv grows."""
    columns = min(max(len(fields), 3), _COLUMNS)
    rows = -(-len(fields) // columns)
    with figure(path, 2.35 * columns + 1.4, 2.6 * rows + 3.4) as drawing:
        halves: Any = drawing.subfigures(2, 1, height_ratios=(2.6 * rows, 3.4))
        above, below = halves
        _maps(above, fields, rows, columns)
        shares, spans, levels = below.subplots(1, 3)
        _shares(shares, fields)
        _spans(spans, fields)
        _growth(levels, grown)
        untrained = [field.model for field in fields if field.weights == "untrained"]
        note = f"; untrained weights: {', '.join(untrained)}" if untrained else ""
        drawing.suptitle(f"Effective receptive fields{' (untrained networks)' if untrained else ''}", fontsize=11)
        caption(drawing, setting + note)


def _maps(drawing: Any, fields: Sequence[Field], rows: int, columns: int) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    panels = drawing.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    image = None
    for axes, field in zip(panels.flat, fields, strict=False):
        relative = field.weights_map / field.weights_map.max()
        image = axes.imshow(relative.clamp(min=_LEAST).numpy(), cmap="magma", norm=LogNorm(_LEAST, 1))
        axes.set_title(drawn(f"{field.model}\n{_short(field.weights)}"), fontsize=8)
        row, column = field.centre
        for one in field.contributions:
            if one.share in _MARKED:
                low = (column - one.side / 2, row - one.side / 2)
                axes.add_patch(Rectangle(low, one.side, one.side, fill=False, edgecolor="white", lw=0.9, ls="--"))
        axes.set_xlim(-0.5, relative.shape[1] - 0.5)
        axes.set_ylim(relative.shape[0] - 0.5, -0.5)
    drawing.colorbar(
        image, ax=panels[:, min(len(fields), columns) - 1], label="contribution / largest", shrink=0.85, pad=0.02
    )


def _short(weights: str) -> str:
    return weights if len(weights) <= 26 else f"...{weights[-23:]}"


def _shares(axes: Any, fields: Sequence[Field]) -> None:
    for index, field in enumerate(fields):
        curve = contribution_curve(field.weights_map, centre=field.centre)
        sides = [2 * radius + 1 for radius in range(len(curve))]
        axes.plot(sides, 100 * curve.numpy(), color=PALETTE[index % len(PALETTE)], label=field.model, lw=1.5)
    axes.set_xlabel("side of the square, pixels")
    axes.set_ylabel("% of the contribution")
    axes.set_title("share within a square")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=6.5)


def _spans(axes: Any, fields: Sequence[Field]) -> None:
    """Bars by stride; attention to the whole map reaches as far as the image does."""
    strides = sorted({span.stride for field in fields for span in field.spans})
    whole = max(max(field.weights_map.shape) for field in fields)
    width = 0.8 / max(len(fields), 1)
    for index, field in enumerate(fields):
        for span in field.spans:
            place = strides.index(span.stride) + (index - (len(fields) - 1) / 2) * width
            colour = PALETTE[index % len(PALETTE)]
            everything = span.pixels is None
            axes.bar(place, span.pixels or whole, width, color="none" if everything else colour, edgecolor=colour)
    axes.axhline(whole, color="#999999", lw=0.8, ls=":")
    axes.set_ylim(top=1.15 * axes.get_ylim()[1])
    axes.set_xticks(range(len(strides)), [f"1/{stride}" for stride in strides])
    axes.set_xlabel("stage, by the size of its map")
    axes.set_ylabel("pixels of the image")
    axes.set_title("span of one token mixer")
    axes.text(0.98, 0.98, "hollow: attention to all", transform=axes.transAxes, ha="right", va="top", fontsize=6.5)


def _growth(axes: Any, grown: Sequence[Growth]) -> None:
    levels = [step.level for step in grown]
    axes.plot(levels, [step.reach for step in grown], ":", color="#999999", label="any influence")
    axes.plot(levels, [step.sides[3] for step in grown], "o-", color=PALETTE[0], label="99%")
    axes.plot(levels, [step.law for step in grown], "k--", lw=1, label="k·2^l")
    axes.plot(levels, [step.sides[2] for step in grown], "o-", color=PALETTE[1], label="50%")
    axes.plot(levels, [step.sides[0] for step in grown], "o-", color=PALETTE[2], label="20%")
    axes.set_yscale("log", base=2)
    ticks = [2**power for power in range(2, 9)]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks(levels)
    axes.set_xlabel("level l")
    axes.set_ylabel("pixels of the map")
    axes.set_title("5x5 RecConv by level")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=6.5)
