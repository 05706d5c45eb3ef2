"""`recnext attention-profile`: linear attention kernels beside softmax attention, layer by layer."""

import json as jsonlib
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Optional

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from recnext.checkpoints import load
from recnext.engine.devices import choose_device
from recnext.engine.figures import figure
from recnext.errors import RecNextError
from recnext.study.analysis.attention_similarity import LINEAR_KERNELS, Profile, attention_profile
from recnext.study.analysis.erf import settle_norms

from .pictures import image_batches, read_size, require_drawing, resize_network
from .shared import parse_size, progress_bar, require_at_least

DEFAULT = "recnext_t_share_channel"
_NAMES = {"elu": "elu + 1", "softplus": "softplus(3.5)", "relu": "relu", "softmax": "softmax"}
_COLOURS = {"elu": "#1f6f8b", "softplus": "#b0563b", "relu": "#63a375", "softmax": "#4d4d4d"}


def run(
    *,
    model: Optional[str] = None,
    checkpoint: Optional[str] = None,
    pretrained: bool = False,
    images: Optional[str] = None,
    count: int = 8,
    size: Optional[str] = None,
    seed: int = 0,
    device: str = "auto",
    output: Path = Path("attention.png"),
    json: bool = False,
) -> int:
    """Compares linear attention under elu + 1, softplus (beta 3.5) and relu with softmax attention.

    In every attention layer the queries and keys of the network are given to each kernel. Printed is the cosine
    similarity of a query's weights with those of softmax, averaged over queries, heads and images; and the
    breadth, the share of the positions that a query attends to (the exponential of its entropy over
    their number). For networks of the A and L series.

    Args:
        model: a timm name; by default what the checkpoint tells, or recnext_t_share_channel, the network of the
            published comparison.
        checkpoint: weight file, run folder or hub id; without weights the network is untrained, and named so.
        pretrained: the published weights of --model.
        images: file, folder or pattern; without it, random noise.
        count: images, or draws of noise.
        size: of the images, N or HxW in pixels; by default the network's.
        seed: of random weights and noise.
        device: auto, cpu, cuda, cuda:N or mps.
        output: PNG to draw.
        json: print JSON instead of a table.
    """
    require_at_least(1, count=count)
    require_drawing("recnext attention-profile")
    require_at_least(0, seed=seed)
    pixels = None if size is None else parse_size(size)
    if not output.parent.is_dir():
        raise RecNextError(f"cannot write {output}: there is no folder {output.parent}")
    target = choose_device(device)
    name = DEFAULT if model is None and checkpoint is None else model
    torch.manual_seed(seed)
    network = load(name, checkpoint=checkpoint, pretrained=pretrained, device=target)
    pixels = pixels or read_size(network)
    resize_network(network, pixels)
    shown = image_batches(network, images, count=count, size=pixels, seed=seed, device=target)
    trained = checkpoint is not None or pretrained
    if not trained:
        settle_norms(network, shown.batches())
    with progress_bar() as bar:
        task = bar.add_task("images", total=shown.total)
        profiles = attention_profile(network, shown.batches(), on_image=lambda: bar.advance(task))

    weights = checkpoint or ("published weights" if pretrained else "untrained")
    label = network.pretrained_cfg.get("architecture", type(network).__name__)  # type: ignore[operator, union-attr]
    setting = f"{label}, {weights}, {pixels[0]}x{pixels[1]}, {shown.described}"
    if json:
        rows = [asdict(profile) for profile in profiles]
        print(jsonlib.dumps({"setting": setting, "untrained": not trained, "layers": rows}, indent=1))
    else:
        Console().print(table(profiles, setting, untrained=not trained))
    draw(output, profiles, setting, untrained=not trained)
    print(f"drew {output}", file=sys.stderr)
    return 0


def table(profiles: Sequence[Profile], setting: str, *, untrained: bool) -> Table:
    """Similarity and breadth by layer, and their means."""
    rows = Table(
        title=f"Linear and softmax attention{' of an untrained network' if untrained else ''}",
        caption=f"similarity: cosine with softmax's weights; breadth: share of the positions attended to\n{setting}",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    rows.add_column("stage.\nblock", overflow="fold")
    rows.add_column("n", justify="right", vertical="bottom")
    for kernel in LINEAR_KERNELS:
        rows.add_column(f"{_SHORT[kernel]}\nsimil.", justify="right", no_wrap=True)
    for kernel in (*LINEAR_KERNELS, "softmax"):
        rows.add_column(f"{_SHORT[kernel]}\nbreadth", justify="right", no_wrap=True, style="dim")
    for row in profiles:
        rows.add_row(
            re.sub(r"\b(stages|layers|blocks|token_mixer|attn|agg|down\.1)\b\.?", "", row.layer).strip("."),
            str(row.positions),
            *(f"{row.similarity[kernel]:.3f}" for kernel in LINEAR_KERNELS),
            *(f"{row.breadth[kernel]:.2f}" for kernel in (*LINEAR_KERNELS, "softmax")),
        )
    rows.add_section()
    rows.add_row(
        "mean",
        "",
        *(f"[bold]{_mean([row.similarity[kernel] for row in profiles]):.3f}" for kernel in LINEAR_KERNELS),
        *(f"{_mean([row.breadth[kernel] for row in profiles]):.2f}" for kernel in (*LINEAR_KERNELS, "softmax")),
    )
    return rows


_SHORT = {"elu": "elu+1", "softplus": "softplus", "relu": "relu", "softmax": "softmax"}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def draw(path: Path, profiles: Sequence[Profile], setting: str, *, untrained: bool) -> None:
    """Draws similarity and breadth over the depth of the network.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    depth = range(1, len(profiles) + 1)
    with figure(path, 9.6, 3.6) as drawing:
        left, right = drawing.subplots(1, 2)
        for kernel in LINEAR_KERNELS:
            style = {"color": _COLOURS[kernel], "marker": "o", "markersize": 3.5, "label": _NAMES[kernel]}
            left.plot(depth, [row.similarity[kernel] for row in profiles], **style)
        for kernel in (*LINEAR_KERNELS, "softmax"):
            style = {"color": _COLOURS[kernel], "marker": "o", "markersize": 3.5, "label": _NAMES[kernel]}
            right.plot(depth, [row.breadth[kernel] for row in profiles], **style)
        left.set_title("cosine similarity with softmax attention")
        right.set_title("share of the positions attended to")
        for axes in (left, right):
            axes.set_ylim(0, 1.03)
            axes.set_xlabel("attention layer, first to last")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.25)
            _mark_sizes(axes, profiles)
        right.legend(fontsize=7.5)
        if untrained:
            drawing.suptitle("untrained network", fontsize=10)
        drawing.supxlabel(setting, fontsize=7, color="#666666")


def _mark_sizes(axes: object, profiles: Sequence[Profile]) -> None:
    """A line where the number of positions changes, with that number."""
    last = 0
    for place, row in enumerate(profiles, 1):
        if row.positions != last:
            axes.axvline(place - 0.5, color="#bbbbbb", lw=0.7, ls=":")  # type: ignore[attr-defined]
            axes.text(place - 0.4, 0.02, f"n = {row.positions}", fontsize=6.5, color="#777777")  # type: ignore[attr-defined]
            last = row.positions
