"""What each level of a recursive token mixer adds to its output: the multi-frequency decomposition.

RecConv is linear, so its output is a sum with one term a level: the feature f_i of that level, convolved and resized
up to the input's size as if all other features were zero. RecAttn2d has two terms, its input and the attended map;
what attention does within its level is left as it is. A constant holds the biases.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.mixers import RecAttn2d, RecConv2d

Recursive = Union[RecConv2d, RecAttn2d]


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of the recursion.

    Attributes:
        level: 0 is the input's own size, each further one halves it.
        feature: (N, C, h, w), the map of that level before its convolution.
        added: (N, C, H, W), its term in the output.
    """

    level: int
    feature: Tensor
    added: Tensor


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """The terms of a mixer's output.

    Attributes:
        levels: finest first.
        constant: (1, C, H, W), what the biases alone give; the terms and it add up to the output.
    """

    levels: list[Level]
    constant: Tensor

    @property
    def output(self) -> Tensor:
        """(N, C, H, W), the sum."""
        return sum((level.added for level in self.levels), self.constant)

    def shares(self) -> list[float]:
        """Each level's share of the output's variance over positions; they add up to 1, and one may be negative.

        A share is the covariance of the term with the output less its constant, over the variance of that, both
        summed over images and channels.
        """
        output = _centred(self.output - self.constant)
        variance = float((output**2).sum())
        if variance == 0:
            return [0.0 for _ in self.levels]
        return [float((_centred(level.added) * output).sum()) / variance for level in self.levels]


def _centred(x: Tensor) -> Tensor:
    x = x.double()
    return x - x.mean((2, 3), keepdim=True)


def recursive_mixers(model: nn.Module) -> dict[str, Recursive]:
    """The mixers of a network that `decompose` takes apart, by the names of their modules, in order."""
    return {name: part for name, part in model.named_modules() if isinstance(part, (RecConv2d, RecAttn2d))}


@torch.no_grad()
def decompose(mixer: Recursive, x: Tensor) -> Decomposition:
    """Takes the output of a recursive mixer apart, level by level.

    Args:
        mixer: RecConv2d, or RecAttn2d (norms in eval mode).
        x: (N, C, H, W), its input.
    """
    if isinstance(mixer, RecConv2d):
        return _decompose_recconv(mixer, x)
    attended = mixer.down(x)
    resized = F.interpolate(attended, size=x.shape[-2:], mode=mixer.mode)
    constant = mixer.conv(torch.zeros_like(x[:1]))
    return Decomposition(
        levels=[
            Level(level=0, feature=x, added=mixer.conv(x) - constant),
            Level(level=1, feature=attended, added=mixer.conv(resized) - constant),
        ],
        constant=constant,
    )


def _decompose_recconv(mixer: RecConv2d, x: Tensor) -> Decomposition:
    features = [x]
    for _ in range(mixer.level):
        features.append(mixer.down(features[-1]))
    sizes = [feature.shape[-2:] for feature in features]
    constant = _climb(mixer, sizes, mixer.level, torch.zeros_like(features[-1][:1]), bias=True)
    levels = [
        Level(level=level, feature=feature, added=_climb(mixer, sizes, level, feature, bias=False))
        for level, feature in enumerate(features)
    ]
    return Decomposition(levels=levels, constant=constant)


def _climb(mixer: RecConv2d, sizes: list[torch.Size], level: int, y: Tensor, *, bias: bool) -> Tensor:
    """The way of a level's feature up to the output, every other feature being zero."""
    for above in range(level, -1, -1):
        conv = mixer.convs[mixer.level - above]
        assert isinstance(conv, nn.Conv2d)
        y = F.conv2d(y, conv.weight, conv.bias if bias else None, padding=conv.padding, groups=conv.groups)  # type: ignore[arg-type]
        if above > 0:
            y = F.interpolate(y, size=sizes[above - 1], mode=mixer.mode)
    return y


@torch.no_grad()
def decompose_network(
    model: nn.Module, images: Tensor, *, block: Optional[str] = None
) -> tuple[dict[str, list[float]], str, Decomposition]:
    """Every recursive mixer's shares for some images, and one of them taken apart.

    Args:
        model: in eval mode.
        images: (N, C, H, W), normalised, on its device.
        block: name of the mixer, or of a block or stage that it is the first mixer of; by default the first.

    Returns:
        Shares by level for each mixer's name, the name of the one chosen, and its decomposition.

    Raises:
        RecNextError: the network has no recursive mixer, or none by that name.
    """
    mixers = recursive_mixers(model)
    if not mixers:
        raise RecNextError(
            f"{type(model).__name__} has no recursive token mixer (RecConv, RecAttn): there are no levels to show"
        )
    chosen = next((name for name in mixers if block is None or f"{name}.".startswith(f"{block}.")), None)
    if chosen is None:
        raise RecNextError(f"no recursive token mixer is called {block!r}: the network has {', '.join(mixers)}")
    shares: dict[str, list[float]] = {}
    found: list[Decomposition] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(mixer: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            decomposition = decompose(mixer, inputs[0])
            shares[name] = decomposition.shares()
            if name == chosen:
                found.append(decomposition)

        return hook

    hooks = [mixer.register_forward_hook(watch(name)) for name, mixer in mixers.items()]
    try:
        model(images)
    finally:
        for handle in hooks:
            handle.remove()
    return shares, chosen, found[0]


def radial_power(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The power spectrum of maps, averaged over directions, channels and images, under a Hann window.

    Args:
        maps: (..., H, W), of more than 3 pixels a side; the mean of each map is taken off first.

    Returns:
        Frequencies in cycles per pixel, and the power there, both (bins,) float64. White noise has its variance
        at all frequencies.
    """
    height, width = maps.shape[-2:]
    x = maps.detach().double().cpu().reshape(-1, height, width)
    # without its zeros at the ends, so that small maps keep their border
    rows, columns = (torch.hann_window(side + 2, periodic=False, dtype=torch.double)[1:-1] for side in (height, width))
    window = rows[:, None] * columns
    x = (x - x.mean((1, 2), keepdim=True)) * window
    power = torch.fft.fft2(x).abs().square().mean(0) / window.square().sum()
    radius = torch.hypot(
        torch.fft.fftfreq(height, dtype=torch.double)[:, None], torch.fft.fftfreq(width, dtype=torch.double)
    )
    bins = max(min(height, width) // 2, 1)
    index = (radius * 2 * bins).round().long()
    inside = (index >= 1) & (index <= bins)
    counts = torch.bincount(index[inside], minlength=bins + 1)
    total = torch.bincount(index[inside], weights=power[inside], minlength=bins + 1)
    frequencies = torch.arange(bins + 1, dtype=torch.double) / (2 * bins)
    seen = counts > 0
    return frequencies[seen], total[seen] / counts[seen]
