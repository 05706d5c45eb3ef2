"""The published ablation of token mixers in RecNeXt-M1, joined with what is counted and timed here."""

import json
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from torch import nn

from recnext.checkpoints.published import published
from recnext.deploy.optimize.trial import CLOCK, timed_turns, timing
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


class Ablation:
    """Builds every row's network, then times all of them turn by turn.

    Args:
        image_size: 224 or 384, the sizes published.
        mixers: token mixers, published or not; None for every one published at this size.
        batch_size: images of a timed pass.
        rounds: turns of timing.

    Raises:
        RecNextError: the size is not published, or a mixer is unknown or does not take images of that size.
    """

    def __init__(
        self, image_size: int, *, mixers: Sequence[str] | None = None, batch_size: int = 1, rounds: int = 10
    ) -> None:
        table = published()["ablation_recnext_m1"]
        sizes = sorted({row["image_size"] for row in table})
        if image_size not in sizes:
            raise RecNextError(f"image size {image_size}: the ablation was published at {sizes}")
        self.image_size = image_size
        self.batch_size = batch_size
        self.rounds = rounds
        self._published = {row["variant"]: row for row in table if row["image_size"] == image_size}
        self.variants = list(self._published if mixers is None else dict.fromkeys(mixers))
        if not self.variants:
            raise RecNextError("no token mixer given: leave them out for every one published")
        self._counts: dict[str, tuple[int, int]] = {}
        self._times: dict[str, list[float]] = {variant: [] for variant in self.variants}
        self._functions: dict[str, Callable[[], Any]] = {}

    def build(self) -> Iterator[str]:
        """Makes, counts and fuses the networks, yielding each name; `time` comes next."""
        shape = (self.batch_size, 3, self.image_size, self.image_size)
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        for variant in self.variants:
            model = timm.create_model(NETWORK, token_mixer=variant)
            parameters = count_parameters(model)
            fused: nn.Module = fuse(model).to(memory_format=torch.channels_last)
            counts = parameters, count_macs(fused, (1, *shape[1:]))  # refuses a size that does not fit
            self._counts[variant] = counts
            self._functions[variant] = partial(fused, x)
            yield variant

    def time(self) -> Iterator[int]:
        """Times the networks turn by turn, yielding each turn's number; `rows` comes next."""
        with torch.inference_mode():
            yield from timed_turns(
                self._functions, self._times, rounds=self.rounds, seconds=math.inf, calls=1, least=CLOCK
            )

    def steps(self) -> int:
        """How often `build` and `time` yield together."""
        return len(self.variants) + self.rounds

    def rows(self) -> list[AblationRow]:
        """The table, in the order of the mixers."""
        rows = []
        for variant in self.variants:
            known = self._published.get(variant, {})
            parameters, macs = self._counts[variant]
            rows.append(
                AblationRow(
                    variant=variant,
                    image_size=self.image_size,
                    published_parameters=known.get("params"),
                    top1=known.get("top1_120_epochs"),
                    throughput=known.get("throughput_rtx3090"),
                    parameters=parameters,
                    macs=macs,
                    seconds=timing(self._times[variant]).median,
                    command=training_command(variant, image_size=self.image_size),
                )
            )
        return rows
