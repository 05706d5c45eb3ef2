"""Draws the pictures of docs/recconv.md: `python benchmarks/draw_recconv.py [folder]`.

The diagrams are drawn; the influence maps and the costs are computed from `recnext.RecConv2d`.
"""

import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from recnext.nn.mixers import RecConv2d
from recnext.study.analysis.laws import law
from recnext.study.analysis.receptive_field import (
    averaging,
    exact_receptive_field,
    influence,
    nominal_receptive_field,
    weight_within,
)

KERNEL = 5
LEVELS = 4
MAP, SUM, RESULT = "#dbe9f4", "#f6e3d3", "#dff0df"
DOWN, UP, INK, PLAIN = "#1f6f8b", "#b0563b", "#333333", "#b0563b"
COLOURS = ("#0b3c5d", "#1f7a8c", "#63a375", "#e0a458", "#b0563b")  # of the levels, finest first
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "savefig.dpi": 130,
}


def pixels(axes: Axes, x: float, y: float, side: float, cells: int, colour: str) -> None:
    """A map of cells x cells pixels, centred at (x, y)."""
    axes.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, facecolor=colour, edgecolor=INK, lw=1.1))
    for line in np.linspace(-side / 2, side / 2, cells + 1)[1:-1]:
        axes.plot([x + line, x + line], [y - side / 2, y + side / 2], color=INK, lw=0.3, alpha=0.6)
        axes.plot([x - side / 2, x + side / 2], [y + line, y + line], color=INK, lw=0.3, alpha=0.6)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=colour, lw=1.4, shrinkA=0, shrinkB=0)
    )


def join(axes: Axes, x: float, y: float, sign: str = "+") -> None:
    axes.plot(x, y, "o", color="white", markeredgecolor=INK, markersize=15, zorder=3)
    axes.text(x, y - 0.012, sign, ha="center", va="center", fontsize=12, zorder=4)


def box(axes: Axes, x: float, y: float, text: str, width: float = 1.0, colour: str = SUM) -> None:
    style = "round,pad=0.02,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((x - width / 2, y - 0.2), width, 0.4, boxstyle=style, facecolor=colour, edgecolor=INK)
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=8.5)


def draw_recursion(path: Path) -> None:
    """The data flow for two levels."""
    drawing = Figure(figsize=(9.6, 4.7), layout="constrained")
    axes = drawing.add_subplot()
    rows, sides, cells = (4.2, 2.3, 0.8), (1.5, 0.95, 0.6), (16, 8, 4)
    left, middle, conv, right = 1.5, 3.3, 4.9, 7.0
    for i, (y, side, count) in enumerate(zip(rows, sides, cells, strict=True)):
        pixels(axes, left, y, side, count, MAP)
        axes.text(
            left - side / 2 - 0.12, y, "$f_0 = x$" if i == 0 else f"$f_{i}$", ha="right", va="center", fontsize=11
        )
        box(axes, conv, y, f"convs[{2 - i}]")
        arrow(axes, (conv + 0.52, y), (right - side / 2, y))
        pixels(axes, right, y, side, count, RESULT if i == 0 else SUM)
        size = "H, W" if i == 0 else f"H/{2**i}, W/{2**i}"
        axes.text(right + side / 2 + 0.12, y, f"{'result' if i == 0 else f'$y_{i}$'}\n{size}", va="center", fontsize=10)
    for i in (0, 1):
        arrow(axes, (left + sides[i] / 2, rows[i]), (middle - 0.16, rows[i]))
        join(axes, middle, rows[i])
        arrow(axes, (middle + 0.16, rows[i]), (conv - 0.52, rows[i]))
        top, bottom = rows[i] - sides[i] / 2, rows[i + 1] + sides[i + 1] / 2
        arrow(axes, (left, top), (left, bottom), DOWN)
        axes.text(left - 0.12, (top + bottom) / 2, "down", color=DOWN, ha="right", va="center")
        bend = (top + bottom) / 2
        axes.plot([right, right, middle], [bottom, bend, bend], color=UP, lw=1.4)
        arrow(axes, (middle, bend), (middle, rows[i] - 0.17), UP)
        axes.text(conv, bend + 0.12, "resize", color=UP, ha="center", fontsize=9)
    arrow(axes, (left + sides[2] / 2, rows[2]), (conv - 0.52, rows[2]))
    notes = (
        ("every convolution is\ndepthwise, k by k", INK),
        ("down, with stride 2, is one\nconvolution for all levels", DOWN),
        ("one pixel of the coarsest\nmap stands for 4 by 4 of x", UP),
    )
    for y, (note, colour) in zip(rows, notes, strict=True):
        axes.text(8.75, y, note, va="center", color=colour)
    axes.set_xlim(-0.1, 11)
    axes.set_ylim(0.3, 5.1)
    axes.set_aspect("equal")
    axes.axis("off")
    drawing.savefig(path)


def draw_variants(path: Path) -> None:
    """One level of every design; the width of a bar is its share of the channels."""
    designs = (
        ("bilinear, nearest", "down", "resize", "+", 1.0, "rec_KxK_bilinear, rec_KxK_nearest"),
        ("max pooling", "max pool", "max unpool", "+", 1.0, "rec_KxK_unpool"),
        ("transposed convolution", "down", "up", "+ or $\\times$", 1.0, "rec_KxK_conv_transpose[_hadamard]"),
        ("variant A: group convolutions", "downs[i]\n2 to 1", "ups[i]\n1 to 2", "+", 0.5, "rec_KxK_group"),
        (
            "variant B: split, concatenate",
            "half, then\ndowns[i]",
            "ups[i] or\nresize",
            "cat",
            0.5,
            "rec_KxK_split[_bilinear]",
        ),
        ("recurrent aggregation", "n", "resize", "+", 1.0, "rec_KxK_nearest_recurrent"),
    )
    drawing = Figure(figsize=(10.4, 4.3), layout="constrained")
    for axes, (title, down, up, sign, share, name) in zip(drawing.subplots(2, 3).flat, designs, strict=True):
        recurrent = name.endswith("_recurrent")
        full = 1.3
        axes.set_title(title, fontsize=9.5)
        axes.text(-0.3, 2.5, name, fontsize=8, color="#666666", family="monospace")
        box(axes, 0.6, 2.1, "$f_{i-1}$", full, MAP)
        box(axes, 0.6 + (full - full * share) / 2, 0.5, "$f_i$", full * share, MAP)
        box(axes, 3.0, 0.5, "b" if recurrent else "conv", max(full * share, 0.75))
        box(axes, 4.35, 2.1, "next" if recurrent else "conv", 0.8, RESULT if recurrent else SUM)
        arrow(axes, (0.6 + full * (1 - share) / 2, 1.88), (0.6 + full * (1 - share) / 2, 0.72), DOWN)
        axes.text(0.5 + full * (1 - share) / 2, 1.3, down, color=DOWN, ha="right", va="center", fontsize=8.5)
        arrow(axes, (1.28, 0.5), (3.0 - max(full * share, 0.75) / 2 - 0.03, 0.5))
        arrow(axes, (3.0, 0.72), (3.0, 1.87 if len(sign) > 1 else 1.93), UP)
        axes.text(3.1, 1.3, f"{up}, then a" if recurrent else up, color=UP, ha="left", va="center", fontsize=8.5)
        if recurrent:
            box(axes, 2.0, 2.1, "b", 0.5)
            arrow(axes, (1.28, 2.1), (1.72, 2.1))
            arrow(axes, (2.28, 2.1), (2.82, 2.1))
        else:
            arrow(axes, (1.28, 2.1), (2.65 if len(sign) > 1 else 2.82, 2.1))
        if len(sign) == 1:
            join(axes, 3.0, 2.1, sign)
        else:
            box(axes, 3.0, 2.1, sign, 0.62, "white")
        arrow(axes, (3.34 if len(sign) > 1 else 3.18, 2.1), (3.92, 2.1))
        axes.set_xlim(-0.35, 4.95)
        axes.set_ylim(0.2, 2.8)
        axes.set_aspect("equal")
        axes.axis("off")
    drawing.savefig(path)


def influence_maps() -> list[np.ndarray]:
    """Influence of RecConv with 0 to LEVELS levels and averaging kernels, averaged over the cell, on one grid."""
    cell = 2**LEVELS
    size = -(-(exact_receptive_field(KERNEL, level=LEVELS) + 2 * cell) // cell) * cell
    maps = []
    for level in range(LEVELS + 1):
        mixer = averaging(RecConv2d(1, KERNEL, level=level))
        maps.append(torch.stack(list(influence(mixer, size=size, period=2**level))).mean(0).numpy())
    return maps


def square(axes: Axes, centre: int, width: int, colour: str) -> None:
    low = centre - width // 2 - 0.5
    axes.add_patch(Rectangle((low, low), width, width, fill=False, edgecolor=colour, lw=1.5))


def draw_influence(path: Path, maps: list[np.ndarray]) -> None:
    """How much every input pixel weighs in one output pixel, level by level."""
    drawing = Figure(figsize=(11.4, 2.9), layout="constrained")
    panels = drawing.subplots(1, LEVELS + 1)
    centre = maps[0].shape[0] // 2
    for level, (axes, weights) in enumerate(zip(panels, maps, strict=True)):
        image = axes.imshow(weights / weights.sum(), cmap=_faint("magma"), norm=LogNorm(1e-8, maps[0].max()))
        reach = nominal_receptive_field(KERNEL, level=level)
        exact = exact_receptive_field(KERNEL, level=level)
        square(axes, centre, reach, "#2ec4b6")
        within = weight_within(torch.from_numpy(weights), width=reach)
        axes.set_title(f"l = {level}")
        axes.set_xlabel(f"k·2^l = {reach} holds {within:.0%}\nall of it: {exact} pixels")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    drawing.colorbar(image, ax=list(panels), label="share of the output", shrink=0.85, pad=0.01)
    drawing.savefig(path)


def _faint(name: str) -> Colormap:
    """A colour map whose values too small to show are the background's."""
    return matplotlib.colormaps[name].with_extremes(under="#f1f1f1", bad="#f1f1f1")


def draw_levels(path: Path, maps: list[np.ndarray]) -> None:
    """The kernel that RecConv makes, cut along a row, level stacked on level; and the frequencies each passes."""
    rows = [weights.sum(0) for weights in maps]  # a row of the separable parts, summed over the other axis
    parts = [rows[0]] + [after - before for before, after in pairwise(rows)]
    centre = len(rows[0]) // 2
    distance = np.arange(len(rows[0])) - centre
    drawing = Figure(figsize=(10.4, 3.5), layout="constrained")
    kernel, frequency = drawing.subplots(1, 2)
    labels = [f"level {level}" for level in range(LEVELS + 1)]
    kernel.stackplot(distance, [part / LEVELS for part in parts], colors=COLOURS, labels=labels)
    kernel.set_xlim(-110, 110)
    kernel.set_xlabel("pixels from the output")
    kernel.set_ylabel("weight")
    kernel.set_yticks([])
    kernel.set_title("the kernel that four levels make")
    kernel.legend(loc="upper right")
    for part, colour, label in zip(parts, COLOURS, labels, strict=True):
        response = np.abs(np.fft.rfft(np.pad(part, 4096)))
        frequency.plot(np.fft.rfftfreq(len(part) + 8192), response, color=colour, label=label, lw=1.7)
    frequency.set_xscale("log", base=2)
    frequency.set_xlim(1 / 512, 1 / 2)
    ticks = [2**i for i in range(1, 10)]
    frequency.set_xticks([1 / tick for tick in ticks], [str(tick) for tick in ticks])
    frequency.set_xlabel("wavelength in pixels")
    frequency.set_ylabel("passes")
    frequency.set_ylim(0, 1.05)
    frequency.set_title("coarser levels pass longer waves")
    drawing.savefig(path)


def draw_costs(path: Path) -> None:
    """Parameters and MACs against the receptive field, beside a plain depthwise convolution."""
    laws = [law(level, kernel_size=KERNEL, channels=48, size=64) for level in range(6)]
    fields = [row.receptive_field for row in laws]
    drawing = Figure(figsize=(9.6, 3.2), layout="constrained")
    panels = (("parameters", "parameters"), ("MACs on a 64x64 map", "macs"))
    for axes, (title, name) in zip(drawing.subplots(1, 2), panels, strict=True):
        plain, ours = [getattr(row.plain, name) for row in laws], [getattr(row.recconv, name) for row in laws]
        axes.plot(fields, plain, "o--", color=PLAIN, label="plain depthwise convolution")
        axes.plot(fields, ours, "o-", color=DOWN, label="RecConv")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(fields, [str(field) for field in fields])
        axes.set_xlabel("receptive field k·2^l in pixels (k = 5, 48 channels)")
        axes.set_title(title)
        axes.grid(axis="y", alpha=0.25)
        axes.annotate(
            f"{plain[-1] / ours[-1]:,.0f} times",
            (fields[-1], (plain[-1] * ours[-1]) ** 0.5),
            ha="right",
            va="center",
            color="#555555",
        )
    drawing.axes[0].legend(loc="upper left")
    drawing.savefig(path)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        draw_recursion(folder / "recconv-recursion.png")
        draw_variants(folder / "recconv-variants.png")
        maps = influence_maps()
        draw_influence(folder / "recconv-influence.png", maps)
        draw_levels(folder / "recconv-levels.png", maps)
        draw_costs(folder / "recconv-costs.png")


if __name__ == "__main__":
    main()
