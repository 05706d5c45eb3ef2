"""Pictures of `recnext bench`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recnext.engine.figures import caption, drawn, figure
from recnext.study.speed.protocol import Measurement
from recnext.study.speed.resolution import ImageCost

_OURS, _OTHERS = "#1f6f8b", "#b0563b"


def pareto(rows: Sequence[Measurement]) -> list[Measurement]:
    """The networks that no other beats in both accuracy and latency, the fastest first."""
    best, front = float("-inf"), []
    for row in sorted(rows, key=lambda row: (row.latency_ms, -(row.top1 or 0.0))):
        if row.top1 is not None and row.top1 > best:
            best = row.top1
            front.append(row)
    return front


def draw_pareto(path: Path, rows: Sequence[Measurement], setting: str) -> None:
    """Draws published accuracy against measured latency, and the front.

    Of a network in several backends the fastest is named, the others are pale."""
    known = [(row, row.top1) for row in rows if row.top1 is not None]
    with figure(path, 8.0, 5.0) as drawing:
        axes = drawing.add_subplot()
        front = pareto(rows)
        fastest = {
            model: min(row.latency_ms for row in rows if row.model == model) for model in {r.model for r in rows}
        }
        axes.step(
            [row.latency_ms for row in front],
            [row.top1 or 0.0 for row in front],
            where="post",
            color="#999999",
            linewidth=1,
            zorder=0,
        )
        for row, top1 in known:
            ours = row.model.startswith("recnext")
            first = row.latency_ms == fastest[row.model]
            axes.errorbar(
                row.latency_ms,
                top1,
                xerr=[[row.latency_ms - row.low_ms], [row.high_ms - row.latency_ms]],
                fmt="o" if ours else "s",
                color=_OURS if ours else _OTHERS,
                alpha=1.0 if first else 0.25,
                elinewidth=0.8,
            )
        axes.set_xscale("log")
        axes.margins(x=0.1, y=0.08)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="minor", labelsize=7)
        axes.set_xlabel("latency at batch 1, ms (median, quartiles)")
        axes.set_ylabel("published ImageNet-1K top-1, %")
        axes.grid(alpha=0.25)
        caption(drawing, setting)
        _name(axes, {row.model: (row.latency_ms, top1) for row, top1 in known if row.latency_ms == fastest[row.model]})


def _name(axes: Any, points: dict[str, tuple[float, float]]) -> None:
    """Writes names beside points, each at the first place where it hides no point and no other name."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    axes.figure.canvas.draw()  # places the axes
    taken = [
        Bbox.from_extents(x - 5, y - 5, x + 5, y + 5)
        for x, y in axes.transData.transform(list(points.values())).tolist()
    ]
    places = [("center", 0, 5), ("center", 0, -11), ("left", 6, -2), ("right", -6, -2)]
    places += [("center", 0, 5 + 8 * step * sign) for step in range(2, 8) for sign in (1, -1)]
    for name, point in points.items():
        weight = "bold" if name.startswith("recnext") else "normal"
        for place, (align, right, up) in enumerate(places):
            text = axes.annotate(
                drawn(name),
                point,
                xytext=(right, up),
                textcoords="offset points",
                ha=align,
                fontsize=7,
                fontweight=weight,
                arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "#999999"} if place > 3 else None,
            )
            text.get_window_extent()  # computes its position
            box = Text.get_window_extent(text)  # of the name alone, without the line to its point
            if not any(box.overlaps(other) for other in taken) or place == len(places) - 1:
                taken.append(box)
                break
            text.remove()


def draw_resolution(path: Path, rows: Sequence[ImageCost], setting: str) -> None:
    """Draws time and memory per pixel against the image size."""
    with figure(path, 9.0, 4.0) as drawing:
        left, right = drawing.subplots(1, 2)
        for name in dict.fromkeys(row.mixer for row in rows):
            mine = [row for row in rows if row.mixer == name]
            images = [row.image for row in mine]
            style = {"marker": "o", "linewidth": 2.5 if name.startswith("RecConv") else 1.2, "label": name}
            left.plot(images, [row.nanoseconds_per_pixel for row in mine], **style)
            right.plot(images, [row.bytes_per_pixel for row in mine], **style)
        for axes, title in ((left, "ns per pixel of the map"), (right, "bytes per pixel of the map, peak")):
            axes.set_title(title)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(sorted({row.image for row in rows}))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:,.0f}")
            axes.minorticks_off()
            axes.set_xlabel("image side, pixels")
            axes.grid(alpha=0.25)
        right.set_yticks([200, 400, 800, 1600])
        right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
        caption(drawing, setting)
