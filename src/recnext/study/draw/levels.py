"""Pictures of `recnext explain`."""

from pathlib import Path
from typing import Any

from torch import Tensor

from recnext.engine.figures import caption, drawn, figure
from recnext.study.analysis.explanation import Explanation, Levels, percent

COLOURS = ("#0b3c5d", "#1f7a8c", "#63a375", "#e0a458", "#b0563b", "#7b5ea7")  # of the levels, finest first
_HEAT = 0.5  # opacity where it is hottest
_COLUMNS = 5


def draw_classes(path: Path, found: Explanation, text: str) -> None:
    """Draws the image, and each class's heat map over it, with a text below."""
    classes = found.classes
    columns = min(len(classes) + 1, _COLUMNS)
    rows = -(-(len(classes) + 1) // columns)
    image = found.pixels.permute(1, 2, 0).numpy()
    with figure(path, 2.7 * columns + 0.8, 3.0 * rows + 0.2) as drawing:
        panels = drawing.subplots(rows, columns, squeeze=False)
        for axes in panels.flat:
            axes.axis("off")
        flat = list(panels.flat)
        flat[0].imshow(image)
        flat[0].set_title("the network's input", fontsize=8.5)
        shown: Any = None
        for axes, one, score in zip(flat[1:], found.heat, classes, strict=False):
            axes.imshow(image.mean(2), cmap="gray", vmin=0, vmax=255)
            shown = axes.imshow(one.numpy(), cmap="inferno", vmin=0, vmax=1, alpha=_HEAT)
            axes.set_title(drawn(f"{_short(score.name)}  {score.probability:.1%}"), fontsize=8.5)
        bar = drawing.colorbar(shown, ax=flat, shrink=0.75, pad=0.01, label="counts for the class")
        bar.set_ticks([0, 1], labels=["not", "most"])
        caption(drawing, text)


def _short(name: str) -> str:
    name = name.partition(",")[0]
    return name if len(name) <= 26 else f"{name[:25]}…"


def draw_levels(path: Path, levels: Levels, text: str) -> None:
    """Draws a mixer's levels (feature and term of one channel), their spectra, and shares in all mixers."""
    parts, channel = levels.parts, levels.channel
    count = len(parts.levels)
    with figure(path, 1.75 * max(count + 1, 4) + 0.6, 7.0) as drawing:
        halves: Any = drawing.subfigures(2, 1, height_ratios=(3.9, 3.1))
        above, below = halves
        panels = above.subplots(2, count + 1, squeeze=False)
        for axes in panels.flat:
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
        for column, (part, share) in enumerate(zip(parts.levels, parts.shares(), strict=True)):
            feature, added = panels[0, column], panels[1, column]
            _signed(feature, part.feature[0, channel])
            _signed(added, part.added[0, channel])
            height, width = part.feature.shape[-2:]
            feature.set_title(f"level {part.level}", color=COLOURS[column % len(COLOURS)])
            feature.set_xlabel(f"{height}x{width}", fontsize=7.5)
            added.set_xlabel(f"{percent(share)} of the variance", fontsize=7.5)
        panels[0, 0].set_ylabel("feature")
        panels[1, 0].set_ylabel("adds")
        _signed(panels[1, count], parts.output[0, channel])
        panels[1, count].set_xlabel("sum: the output", fontsize=7.5)
        panels[0, count].text(0, 0.5, "each panel on a\nscale of its own:\nblue below 0,\nred above", fontsize=7.5)
        left, right = below.subplots(1, 2)
        _spectra(left, levels)
        _shares(right, levels)
        caption(drawing, text)


def _signed(axes: Any, values: Tensor) -> None:
    largest = float(values.abs().max()) or 1.0
    axes.imshow(values.cpu().float().numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")


def _spectra(axes: Any, levels: Levels) -> None:
    *terms, output = levels.spectra
    for index, (frequencies, power) in enumerate(terms):
        axes.plot(frequencies, power, color=COLOURS[index % len(COLOURS)], label=f"level {index}", lw=1.6)
    axes.plot(*output, color="#999999", ls="--", lw=1.2, label="output")
    axes.set_xscale("log", base=2)
    if float(output[1].max()) > 0:
        axes.set_yscale("log")
    ticks = [1 / 2**power for power in range(1, 8) if 1 / 2**power >= float(output[0][0]) * 0.99]
    axes.set_xticks(ticks, [f"1/{round(1 / tick)}" for tick in ticks])
    axes.set_xlabel("cycles per position")
    axes.set_title("power, over all channels")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7)


def _shares(axes: Any, levels: Levels) -> None:
    """Stacked bars, negative shares below zero."""
    deepest = max(map(len, levels.shares.values()))
    places = range(len(levels.shares))
    up, down = [0.0] * len(levels.shares), [0.0] * len(levels.shares)
    for level in range(deepest):
        values = [shares[level] if level < len(shares) else 0.0 for shares in levels.shares.values()]
        base = [u if value >= 0 else d for value, u, d in zip(values, up, down, strict=True)]
        axes.bar(places, values, bottom=base, color=COLOURS[level % len(COLOURS)], width=0.85)
        up = [u + max(value, 0) for u, value in zip(up, values, strict=True)]
        down = [d + min(value, 0) for d, value in zip(down, values, strict=True)]
    axes.axhline(0, color="#333333", lw=0.7)
    axes.plot(list(levels.shares).index(levels.block), 1.05, "v", color="#333333", markersize=5)
    axes.set_xticks([])
    axes.set_xlabel("blocks, first to last (the mark: the one above)")
    axes.set_title("share of each level in every block")
