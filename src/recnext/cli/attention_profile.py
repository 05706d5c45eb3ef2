"""`recnext attention-profile`: linear attention kernels beside softmax attention, layer by layer."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Optional

from rich.table import Table

from recnext.engine.devices import choose_device
from recnext.engine.figures import require_drawing
from recnext.files import require_output
from recnext.screen import Screen, bold
from recnext.study.analysis.attention_similarity import LINEAR_KERNELS, Profile, attention_profile
from recnext.study.analysis.erf import settle_norms
from recnext.study.analysis.fields import NetworkSource
from recnext.study.analysis.images import image_batches, read_size, resize_network
from recnext.study.draw.attention import draw_attention

from .shared import make_table, parse_size, print_json, progress_bar, require_at_least

DEFAULT = "recnext_t_share_channel"
_KERNELS = (*LINEAR_KERNELS, "softmax")


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
    overwrite: bool = False,
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
        overwrite: replace files that this command did not write.
    """
    require_at_least(1, count=count)
    require_at_least(0, seed=seed)
    require_drawing("recnext attention-profile")
    require_output(output, overwrite=overwrite)
    pixels = None if size is None else parse_size(size)
    name = DEFAULT if model is None and checkpoint is None else model
    subject = NetworkSource(name=name, checkpoint=checkpoint, pretrained=pretrained)
    profiles, setting = _profile(subject, images, count, pixels, seed, device)
    untrained = subject.weights == "untrained"
    if json:
        layers = [asdict(profile) for profile in profiles]
        print_json({"setting": setting, "untrained": untrained, "layers": layers})
    else:
        Screen().print(_table(profiles, setting, untrained=untrained))
    draw_attention(output, profiles, setting, untrained=untrained)
    Screen(stderr=True).print(f"drew {output}")
    return 0


def _profile(
    subject: NetworkSource, images: Optional[str], count: int, size: Optional[tuple[int, int]], seed: int, device: str
) -> tuple[list[Profile], str]:
    target = choose_device(device)
    network = subject.load(device=target, seed=seed)
    size = size or read_size(network)
    resize_network(network, size)
    shown = image_batches(network, images, count=count, size=size, seed=seed, device=target)
    if subject.weights == "untrained":
        settle_norms(network, shown.batches())
    with progress_bar() as bar:
        task = bar.add_task("images", total=shown.total)
        profiles = attention_profile(network, shown.batches(), on_image=lambda: bar.advance(task))
    label = network.pretrained_cfg.get("architecture", type(network).__name__)  # type: ignore[operator, union-attr]
    return profiles, f"{label}, {subject.weights}, {size[0]}x{size[1]}, {shown.described}"


def _table(profiles: Sequence[Profile], setting: str, *, untrained: bool) -> Table:
    """Similarity and breadth by layer, and their means."""
    short = {kernel: "elu+1" if kernel == "elu" else kernel for kernel in _KERNELS}
    table = make_table(
        *("stage.\nblock", "n", *(f"{short[kernel]}\nsimil." for kernel in LINEAR_KERNELS)),
        *(f"{short[kernel]}\nbreadth" for kernel in _KERNELS),
        title=f"Linear and softmax attention{' of an untrained network' if untrained else ''}",
        caption=f"similarity: cosine with softmax's weights; breadth: share of the positions attended to\n{setting}",
    )
    for row in profiles:
        table.add_row(
            re.sub(r"\b(stages|layers|blocks|token_mixer|attn|agg|down\.1)\b\.?", "", row.layer).strip("."),
            str(row.positions),
            *(f"{row.similarity[kernel]:.3f}" for kernel in LINEAR_KERNELS),
            *(f"{row.breadth[kernel]:.2f}" for kernel in _KERNELS),
        )
    table.add_section()
    similarity = (bold(f"{mean(row.similarity[kernel] for row in profiles):.3f}") for kernel in LINEAR_KERNELS)
    table.add_row(
        "mean", "", *similarity, *(f"{mean(row.breadth[kernel] for row in profiles):.2f}" for kernel in _KERNELS)
    )
    return table
