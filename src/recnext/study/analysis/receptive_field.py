"""Receptive fields of RecConv: the law k·2^level, the exact extent, and both as gradients show them.

k·2^level is the width of what the coarsest convolution alone sees: its k taps lie 2^level pixels apart and each
stands for 2^level pixels. Every other convolution widens the set of pixels that have any influence, to less than
three times that; but most of the weight stays within k·2^level.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from recnext.nn.mixers.recconv import RecConv2d


def nominal_receptive_field(kernel_size: int, *, level: int) -> int:
    """The paper's law, k·2^level pixels (arXiv 2412.19628, section 3)."""
    return kernel_size * 2**level


def exact_receptive_field(kernel_size: int, *, level: int, mode: str = "bilinear") -> int:
    """Width in pixels of the input that can change an output pixel of RecConv2d, far from the borders.

    It depends on where the output pixel lies in its cell of 2**level pixels; this is the widest. Follows the
    interval of pixels from the output down the levels and back up to the input.

    Args:
        kernel_size: k, odd.
        level: number of halvings.
        mode: "bilinear" (align_corners False), where a pixel reads both its neighbours, or "nearest".
    """
    intervals = (_interval(kernel_size // 2, position, level, mode) for position in range(2**level))
    return max(high - low + 1 for low, high in intervals)


def reach(kernel_size: int, level: int) -> int:
    """How far, in pixels, an input pixel can move the output of RecConv2d with bilinear resizing."""
    return max(position - _interval(kernel_size // 2, position, level, "bilinear")[0] for position in range(2**level))


def _interval(radius: int, position: int, level: int, mode: str) -> tuple[int, int]:
    """The first and the last pixel that an output pixel depends on."""
    neighbour = 1 if mode == "bilinear" else 0
    low, high = position - radius, position + radius
    read = [(low, high)]  # of f_0, f_1, ... by the convolution and the sum of each level
    for _ in range(level):
        low, high = (low - neighbour) // 2 - radius, (high + neighbour) // 2 + radius
        read.append((low, high))
    for above_low, above_high in reversed(read[:-1]):
        low, high = min(above_low, 2 * low - radius), max(above_high, 2 * high + radius)
    return low, high


def averaging(mixer: nn.Module) -> nn.Module:
    """Makes every convolution of a mixer the average over its window, in float64, in place.

    Then no two paths cancel, and the gradient says how much each pixel weighs.
    """
    mixer.double()
    with torch.no_grad():
        for name, parameter in mixer.named_parameters():
            parameter.fill_(0 if name.endswith("bias") else 1 / parameter[0].numel())
    return mixer


def influence(mixer: nn.Module, *, size: int, period: int = 1) -> Iterator[Tensor]:
    """How much every input pixel weighs in an output pixel: the gradient's magnitude.

    Args:
        mixer: maps (1, 1, size, size) to the same shape, in float64.
        size: side of the map in pixels; beyond the receptive field, for no border to cut it.
        period: output pixels taken, on the diagonal from the middle: 2**level covers RecConv's cell.

    Yields:
        (size, size) float64, the output pixel shifted to (size // 2, size // 2).
    """
    x = torch.zeros(1, 1, size, size, dtype=torch.double, requires_grad=True)
    y = mixer(x)
    for shift in range(period):
        output = y[0, 0, size // 2 + shift, size // 2 + shift]
        (gradient,) = torch.autograd.grad(output, x, retain_graph=True)
        yield gradient[0, 0].abs().roll((-shift, -shift), (0, 1))


def recconv_influences(kernel_size: int, *, level: int, mode: str) -> list[Tensor]:
    """The `influence` of RecConv2d with averaging kernels on every position in a cell of 2**level, beyond its field."""
    cell = 2**level
    size = -(-(exact_receptive_field(kernel_size, level=level, mode=mode) + 4 * cell) // cell) * cell
    return list(influence(averaging(RecConv2d(1, kernel_size, level=level, mode=mode)), size=size, period=cell))


def support(weights: Tensor) -> int:
    """Width in pixels of the columns that hold any weight of an influence map (H, W)."""
    columns = weights.sum(0).nonzero().flatten()
    return int(columns[-1] - columns[0] + 1)


def weight_within(weights: Tensor, *, width: int) -> float:
    """Share of an influence map (H, W) within the centred square of `width` pixels."""
    top, left = (side // 2 - width // 2 for side in weights.shape)
    return float(weights[top : top + width, left : left + width].sum() / weights.sum())
