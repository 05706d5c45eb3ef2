"""Picture of `recnext attention-profile`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recnext.engine.figures import caption, figure
from recnext.study.analysis.attention_similarity import LINEAR_KERNELS, Profile

_NAMES = {"elu": "elu + 1", "softplus": "softplus(3.5)", "relu": "relu", "softmax": "softmax"}
_COLOURS = {"elu": "#1f6f8b", "softplus": "#b0563b", "relu": "#63a375", "softmax": "#4d4d4d"}


def draw_attention(path: Path, profiles: Sequence[Profile], setting: str, *, untrained: bool) -> None:
    """Draws similarity and breadth over the depth of the network."""
    depth = range(1, len(profiles) + 1)
    with figure(path, 9.6, 3.6) as drawing:
        left, right = drawing.subplots(1, 2)
        for axes, values, kernels in (
            (left, [row.similarity for row in profiles], LINEAR_KERNELS),
            (right, [row.breadth for row in profiles], (*LINEAR_KERNELS, "softmax")),
        ):
            for kernel in kernels:
                style: dict[str, Any] = {"color": _COLOURS[kernel], "marker": "o", "markersize": 3.5}
                axes.plot(depth, [value[kernel] for value in values], label=_NAMES[kernel], **style)
            axes.set_ylim(0, 1.03)
            axes.set_xlabel("attention layer, first to last")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.25)
            _mark_sizes(axes, profiles)
        left.set_title("cosine similarity with softmax attention")
        right.set_title("share of the positions attended to")
        right.legend(fontsize=7.5)
        if untrained:
            drawing.suptitle("untrained network", fontsize=10)
        caption(drawing, setting)


def _mark_sizes(axes: Any, profiles: Sequence[Profile]) -> None:
    """A line where the number of positions changes, with that number."""
    last = 0
    for place, row in enumerate(profiles, 1):
        if row.positions != last:
            axes.axvline(place - 0.5, color="#bbbbbb", lw=0.7, ls=":")
            axes.text(place - 0.4, 0.02, f"n = {row.positions}", fontsize=6.5, color="#777777")
            last = row.positions
