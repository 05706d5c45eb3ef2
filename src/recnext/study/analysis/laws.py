"""RecConv's laws beside what is measured, and beside a plain convolution of the same receptive field.

With kernel k, c channels and l levels: receptive field k·2^l, parameters (l + 2)·k²·c and at most 5/3 of the MACs
of one k x k depthwise convolution; a plain depthwise convolution of that receptive field needs 4^l times both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn

from recnext.deploy.optimize.trial import CLOCK, timed_turns
from recnext.nn.mixers.recconv import RecConv2d

from .cost import count_macs, count_parameters
from .receptive_field import nominal_receptive_field, recconv_influences, support, weight_within


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Parameters, MACs of one forward pass, and seconds where they were measured."""

    parameters: int
    macs: int
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Law:
    """One number of levels: what the laws say and what was measured.

    Attributes:
        level: number of halvings l.
        receptive_field: k·2^l, in pixels.
        support: pixels in a row that have any influence on one output pixel, measured by gradients.
        within: share of the influence within k·2^l, for averaging kernels, measured by gradients.
        recconv: cost of RecConv2d.
        plain: cost of a depthwise convolution with a kernel of k·2^l.
    """

    level: int
    receptive_field: int
    support: int
    within: float
    recconv: Cost
    plain: Cost


def plain_convolution(channels: int, kernel_size: int) -> nn.Module:
    """A depthwise convolution without bias, (N, C, H, W) to the same shape for odd and even kernels."""
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    return nn.Sequential(
        nn.ZeroPad2d((before, after, before, after)),
        nn.Conv2d(channels, channels, kernel_size, groups=channels, bias=False),
    )


def measured_field(kernel_size: int, *, level: int, mode: str) -> tuple[int, float]:
    """(support, share within k·2^l) of RecConv2d by gradients, over all positions in a cell of 2**level."""
    maps = recconv_influences(kernel_size, level=level, mode=mode)
    within = weight_within(torch.stack(maps).sum(0), width=nominal_receptive_field(kernel_size, level=level))
    return max(map(support, maps)), within


def law(
    level: int,
    *,
    kernel_size: int = 5,
    channels: int = 48,
    size: int = 64,
    mode: str = "bilinear",
    seconds: tuple[float, float] | None = None,
) -> Law:
    """Counts and measures one number of levels.

    Args:
        level: number of halvings.
        kernel_size: k, odd.
        channels: of the map.
        size: side of the map in pixels.
        mode: "bilinear" or "nearest".
        seconds: times of RecConv and of the plain convolution, where they were measured.
    """
    reach = nominal_receptive_field(kernel_size, level=level)
    widest, within = measured_field(kernel_size, level=level, mode=mode)
    shape = (1, channels, size, size)
    with torch.device("meta"):
        mixers = (RecConv2d(channels, kernel_size, level=level, mode=mode), plain_convolution(channels, reach))
    times = seconds or (None, None)
    recconv, plain = (
        Cost(parameters=count_parameters(mixer), macs=count_macs(mixer, shape), seconds=time)
        for mixer, time in zip(mixers, times, strict=True)
    )
    return Law(level=level, receptive_field=reach, support=widest, within=within, recconv=recconv, plain=plain)


def measure_laws(
    kernel_size: int,
    *,
    levels: int,
    channels: int,
    size: int,
    mode: str,
    rounds: int,
    on_step: Callable[[str], None] = lambda what: None,
) -> list[Law]:
    """Times both sides of every level turn by turn on this CPU, then counts and measures the rest.

    Args:
        kernel_size: k, odd.
        levels: largest number of halvings.
        channels: of the map.
        size: side of the map in pixels.
        mode: "bilinear" or "nearest".
        rounds: turns of timing.
        on_step: told what was done, `rounds` + `levels` + 1 times.
    """
    x = torch.randn(1, channels, size, size).contiguous(memory_format=torch.channels_last)
    functions: dict[str, Callable[[], Any]] = {}
    for level in range(levels + 1):
        plain = plain_convolution(channels, nominal_receptive_field(kernel_size, level=level))
        for name, module in (("recconv", RecConv2d(channels, kernel_size, level=level, mode=mode)), ("plain", plain)):
            functions[f"{name} {level}"] = partial(module.eval().to(memory_format=torch.channels_last), x)  # type: ignore[call-overload]
    times: dict[str, list[float]] = {name: [] for name in functions}
    with torch.inference_mode():
        for _ in timed_turns(functions, times, rounds=rounds, seconds=math.inf, calls=1, least=CLOCK):
            on_step("timing")
    laws = []
    for level in range(levels + 1):
        seconds = (median(times[f"recconv {level}"]), median(times[f"plain {level}"]))
        laws.append(law(level, kernel_size=kernel_size, channels=channels, size=size, mode=mode, seconds=seconds))
        on_step("receptive fields")
    return laws
