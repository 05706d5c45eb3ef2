"""Fits RecConv to a depthwise convolution: least squares on the responses to impulses.

RecConv is linear in its input but not invariant to shifts: an impulse gives another response at each place in a
cell of 2^level pixels. The fit takes an impulse at every place, so its error is that of the outputs on white noise.
Channels do not mix and are fitted side by side: all weights by gradient descent, and then the last convolution, in
which the responses are linear, by its normal equations.
"""

from itertools import product
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.study.analysis.receptive_field import reach

from .forms import last_conv, recconv_like

STEPS = 200
LEARNING_RATE = 0.03  # for kernels of norm 1
CHANNELS = 64  # fitted at a time
PLACES = 4  # of the places in a cell that a step sees, in turn


class Impulses(NamedTuple):
    """Impulses at the places of a cell, and the responses wanted."""

    maps: Tensor  # (places, C, S, S)
    responses: Tensor  # (places, C', S', S')


def fit(module: nn.Module, conv: nn.Conv2d, *, kernel_size: int, level: int, mode: str) -> float:
    """Gives a RecConv the weights that come nearest to a convolution, in place, with zero biases.

    Args:
        module: made by `recconv_like` from `conv` and the other arguments.
        conv: the depthwise convolution wanted, without its bias.
        kernel_size: k of RecConv.
        level: of RecConv.
        mode: how RecConv resizes its levels.

    Returns:
        The relative root mean square error of the responses, over all places and channels.

    Raises:
        RecNextError: the convolution has no values, being on the meta device.
    """
    if conv.weight.is_meta:
        raise RecNextError("least_squares: the weights are on the meta device and have no values; load them first")
    multiple = conv.out_channels // conv.in_channels
    wrong = total = 0.0
    targets = dict(module.named_parameters())
    for first in range(0, conv.in_channels, CHANNELS):
        count = min(CHANNELS, conv.in_channels - first)
        part = _channels(conv, first, count)
        fitted = recconv_like(part, kernel_size=kernel_size, level=level, mode=mode, bias=False)
        error = _fit_channels(fitted, part, reach(kernel_size, level), 2**level)
        energy = part.weight.detach().double().square().sum((1, 2, 3))
        wrong, total = wrong + float((error * energy).sum()), total + float(energy.sum())
        with torch.no_grad():
            for name, weight in fitted.named_parameters():
                rows = slice(first * multiple, (first + count) * multiple)
                targets[name][rows].copy_(weight)
    with torch.no_grad():
        for name, parameter in targets.items():
            if name.endswith("bias"):
                parameter.zero_()
    return (wrong / max(total, torch.finfo(torch.float64).tiny)) ** 0.5


def _channels(conv: nn.Conv2d, first: int, count: int) -> nn.Conv2d:
    """Some of the input channels of a depthwise convolution, in float32 on the CPU, padded to keep the size."""
    multiple = conv.out_channels // conv.in_channels
    padding = [d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    part = nn.Conv2d(
        count,
        count * multiple,
        cast(tuple[int, int], conv.kernel_size),
        stride=cast(tuple[int, int], conv.stride),
        padding=cast(tuple[int, int], tuple(padding)),
        dilation=cast(tuple[int, int], conv.dilation),
        groups=count,
        bias=False,
        device="cpu",
        dtype=torch.float32,
    )
    with torch.no_grad():
        part.weight.copy_(conv.weight[first * multiple : (first + count) * multiple])
    return part


def _fit_channels(module: nn.Module, conv: nn.Conv2d, distance: int, cell: int) -> Tensor:
    """Fits a few channels; returns the relative squared error of each output channel, float64."""
    norm = conv.weight.detach().square().sum((1, 2, 3)).sqrt().clamp_min(1e-12)
    with torch.inference_mode(False), torch.enable_grad():
        wanted = impulses(conv, distance, cell)
        maps = wanted.maps.contiguous(memory_format=torch.channels_last)
        responses = (wanted.responses / norm[:, None, None]).contiguous(memory_format=torch.channels_last)
        start(module, conv, norm)
        order = torch.randperm(len(maps), generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS, pct_start=0.1)
        for step in range(STEPS):
            places = order[(step * PLACES + torch.arange(min(PLACES, len(maps)))) % len(maps)]
            optimizer.zero_grad()
            ((module(maps[places]) - responses[places]).square().sum() / len(places)).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        solve_last(module, maps, responses)
        last_conv(module).weight.mul_(norm[:, None, None, None])
        squares = torch.zeros(conv.out_channels, dtype=torch.float64)
        for inputs, outputs in zip(wanted.maps.split(PLACES), wanted.responses.split(PLACES), strict=True):
            squares += (module(inputs) - outputs).double().square().sum((0, 2, 3))
        return squares / wanted.responses.double().square().sum((0, 2, 3)).clamp_min(1e-24)


def impulses(conv: nn.Conv2d, distance: int, cell: int) -> Impulses:
    """An impulse at every place of a cell, each amid a map that holds all of its response.

    Args:
        conv: the depthwise convolution wanted.
        distance: how far RecConv reaches, in pixels; the convolution reaches no further.
        cell: side after which RecConv's responses repeat; a band repeats along its length only.
    """
    cells = [1 if k == 1 else cell for k in conv.kernel_size]
    middle = [0 if k == 1 else -(-distance // cell) * cell for k in conv.kernel_size]
    places = list(product(range(cells[0]), range(cells[1])))
    maps = torch.zeros(len(places), 1, *[2 * m + c for m, c in zip(middle, cells, strict=True)])
    for i, (row, column) in enumerate(places):
        maps[i, 0, middle[0] + row, middle[1] + column] = 1
    maps = maps.expand(-1, conv.in_channels, -1, -1)
    with torch.no_grad():
        return Impulses(maps, conv(maps))


@torch.no_grad()
def start(module: nn.Module, conv: nn.Conv2d, norm: Tensor) -> None:
    """First weights, in place: a blur on the way down, the middle of the kernel at the end, little in between."""
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    random = torch.Generator().manual_seed(0)
    for i, layer in enumerate(convs):
        height, width = cast(tuple[int, int], layer.kernel_size)
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=random) * 0.03)
        if i == 0:
            layer.weight.add_(torch.outer(_binomial(height), _binomial(width)))
        elif layer is not convs[-1]:
            layer.weight[:, :, height // 2, width // 2] += 0.1
        elif conv.stride == (2, 2):
            layer.weight[:, :, height // 2, width // 2] += 1.0
        else:
            kernel = _undilated(conv.weight, cast(tuple[int, int], conv.dilation)) / norm[:, None, None, None]
            top, left = (kernel.shape[2] - height) // 2, (kernel.shape[3] - width) // 2
            layer.weight.copy_(kernel[:, :, top : top + height, left : left + width])


def _undilated(weight: Tensor, dilation: tuple[int, int]) -> Tensor:
    """A dilated kernel with its gaps written out as zeros."""
    height, width = (d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True))
    spread = weight.new_zeros(weight.shape[0], 1, height, width)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def _binomial(size: int) -> Tensor:
    row = torch.ones(1)
    for _ in range(size - 1):
        row = F.pad(row, (1, 0)) + F.pad(row, (0, 1))
    return row / row.sum()


@torch.no_grad()
def solve_last(module: nn.Module, maps: Tensor, responses: Tensor) -> None:
    """The best last convolution for what comes before it, by the normal equations of each channel, in float64."""
    last = last_conv(module)
    kernel, padding = cast(tuple[int, int], last.kernel_size), cast(tuple[int, int], last.padding)
    channels, taps = last.out_channels, last.weight[0].numel()
    gram = torch.zeros(channels, taps, taps, dtype=torch.float64)
    projection = torch.zeros(channels, taps, 1, dtype=torch.float64)
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for some, wanted in zip(maps.split(PLACES), responses.split(PLACES), strict=True):
        module(some)
        columns = F.unfold(seen.pop(), kernel, padding=padding).unflatten(1, (channels, taps))
        columns = columns.permute(1, 2, 0, 3).flatten(2).double()  # (C, taps, pixels)
        gram += columns @ columns.mT
        projection += columns @ wanted.permute(1, 0, 2, 3).flatten(1).double()[:, :, None]
    handle.remove()
    gram += 1e-9 * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(taps, dtype=torch.float64)
    last.weight.copy_(torch.linalg.solve(gram, projection).reshape(last.weight.shape))
