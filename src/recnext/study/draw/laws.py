"""Picture of `recnext laws`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from recnext.engine.figures import caption, figure
from recnext.study.analysis.laws import Cost, Law

_PANELS: dict[str, Callable[[Cost], float]] = {
    "parameters": lambda cost: cost.parameters,
    "MACs": lambda cost: cost.macs,
    "milliseconds on this CPU": lambda cost: 1e3 * (cost.seconds or 0),
}


def draw_laws(path: Path, laws: Sequence[Law], setting: str) -> None:
    """Draws parameters, MACs and time against the receptive field."""
    fields = [row.receptive_field for row in laws]
    with figure(path, 10.5, 3.4) as drawing:
        for axes, (title, value) in zip(drawing.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
            plain, ours = [value(row.plain) for row in laws], [value(row.recconv) for row in laws]
            axes.plot(fields, plain, "o--", color="#b0563b", label="plain depthwise")
            axes.plot(fields, ours, "o-", color="#1f6f8b", label="RecConv")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(fields, [str(field) for field in fields])
            axes.set_xlabel("receptive field k·2^l (pixels)")
            axes.set_title(title)
            axes.grid(axis="y", alpha=0.25)
            middle = (fields[-1], (plain[-1] * ours[-1]) ** 0.5)
            text = f"{plain[-1] / ours[-1]:,.0f} times"
            axes.annotate(text, middle, ha="right", va="center", color="#555555")
        drawing.axes[0].legend(loc="upper left")
        caption(drawing, setting)
