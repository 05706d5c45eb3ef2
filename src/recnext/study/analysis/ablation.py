"""The published ablation of token mixers in RecNeXt-M1, and what is counted and timed here."""

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import timm
import torch
from torch import nn

from recnext.checkpoints.published import published
from recnext.deploy.optimize.trial import CLOCK, timed_turns
from recnext.errors import RecNextError
from recnext.nn.fusion import fuse

from .cost import count_macs, count_parameters

NETWORK = "recnext_m1"


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One token mixer at one image size.

    Attributes:
        variant: name of the token mixer.
        image_size: side of the image in pixels.
        published_parameters: trainable parameters as published; None for a mixer the paper does not list.
        top1: published ImageNet top-1 accuracy after 120 epochs, in percent.
        throughput: published images per second on an RTX 3090.
        parameters: trainable parameters, counted.
        macs: multiply-accumulates of one fused forward pass of one image, counted.
        seconds: median time of one fused forward pass of the batch on this CPU.
        command: what trains this row, with the published length, batch, crops and learning rates.
    """

    variant: str
    image_size: int
    published_parameters: int | None
    top1: float | None
    throughput: int | None
    parameters: int
    macs: int
    seconds: float
    command: str


def training_command(variant: str, *, image_size: int) -> str:
    """The shell command that trains RecNeXt-M1 with a token mixer by the published recipe, on eight GPUs."""
    model_args = shlex.quote(json.dumps({"token_mixer": variant}))
    return (
        f"torchrun --nproc-per-node 8 -m recnext train imagenet:IMAGENET --config ablation_120e_{image_size} "
        f"--model-args {model_args} --output runs/{NETWORK}_{variant}_{image_size}"
    )


def measure_ablation(
    image_size: int,
    *,
    mixers: Sequence[str] | None = None,
    batch_size: int = 1,
    rounds: int = 10,
    on_step: Callable[[str, int], None] = lambda what, total: None,
) -> list[AblationRow]:
    """Builds and counts every row's network, then times all of them turn by turn.

    Args:
        image_size: 224 or 384, the sizes published.
        mixers: token mixers, published or not; None for every one published at this size.
        batch_size: images of a timed pass.
        rounds: turns of timing.
        on_step: told what is being done, and the number of steps.

    Raises:
        RecNextError: the size is not published, or a mixer is unknown or does not take images of that size.
    """
    table = published()["ablation_recnext_m1"]
    known = {row["variant"]: row for row in table if row["image_size"] == image_size}
    if not known:
        sizes = sorted({row["image_size"] for row in table})
        raise RecNextError(f"image size {image_size}: the ablation was published at {sizes}")
    variants = list(known if mixers is None else dict.fromkeys(mixers))
    if not variants:
        raise RecNextError("no token mixer given: leave them out for every one published")
    steps = len(variants) + rounds
    x = torch.randn(batch_size, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
    counts: dict[str, tuple[int, int]] = {}
    functions: dict[str, Callable[[], Any]] = {}
    for variant in variants:
        on_step(f"building {variant}", steps)
        model = timm.create_model(NETWORK, token_mixer=variant)
        fused: nn.Module = fuse(model).to(memory_format=torch.channels_last)
        counts[variant] = count_parameters(model), count_macs(fused, (1, *x.shape[1:]))  # refuses what does not fit
        functions[variant] = partial(fused, x)
    times: dict[str, list[float]] = {variant: [] for variant in variants}
    with torch.inference_mode():
        for turn in timed_turns(functions, times, rounds=rounds, seconds=math.inf, calls=1, least=CLOCK):
            on_step(f"timing, turn {turn + 1} of {rounds}", steps)
    return [
        _row(variant, image_size, known.get(variant, {}), counts[variant], median(times[variant]))
        for variant in variants
    ]


def _row(
    variant: str, image_size: int, known: Mapping[str, Any], counts: tuple[int, int], seconds: float
) -> AblationRow:
    return AblationRow(
        variant=variant,
        image_size=image_size,
        published_parameters=known.get("params"),
        top1=known.get("top1_120_epochs"),
        throughput=known.get("throughput_rtx3090"),
        parameters=counts[0],
        macs=counts[1],
        seconds=seconds,
        command=training_command(variant, image_size=image_size),
    )
