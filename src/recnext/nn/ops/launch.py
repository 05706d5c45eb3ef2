"""Runs the Triton kernels level by level: the recursion's forward and backward pass on dense NHWC memory."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import torch
import triton
from torch import Tensor

from . import kernels, kernels_backward

MAX_LEVEL = 5
LANES = 67584  # threads that fill an H100 at the kernels' register use: 132 multiprocessors of 512


class Tile(NamedTuple):
    """Columns a strip, elements a program and warps that run it."""

    strip: int
    elements: int
    warps: int


class Tuning(NamedTuple):
    """Block shapes of every kernel; benchmarks/gpu_tune.py measures them."""

    conv: Tile = Tile(4, 256, 4)
    down: Tile = Tile(2, 256, 4)
    conv_backward: Tile = Tile(4, 128, 4)
    down_backward: Tile = Tile(2, 128, 4)
    resize_backward: Tile = Tile(1, 512, 4)
    partial_programs: int = 1056  # programs that share a weight gradient, over all channel blocks
    min_rows: int = 7


TUNING = Tuning()


def divisor(channels: int) -> int:
    """The largest power of two up to 16 that divides the channels: the compiler's widest loads."""
    return min(16, channels & -channels)


def _channel_block(channels: int, elements: int) -> int:
    block = 8 if channels <= 8 else 16
    while block < 64 and channels % (2 * block) == 0:
        block *= 2
    return min(block, elements)


class _Plan(NamedTuple):
    """A launch: its grid over the strips, and the arguments that every kernel takes alike."""

    grid: int
    channel_blocks: int
    rows: int
    meta: dict[str, Any]


_compiled: dict[tuple[Any, ...], Any] = {}


def _start(
    kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], meta: dict[str, Any], aligned: bool = True
) -> None:
    """Launches a kernel, from the second time on without Triton's own lookup, which takes most of a call's time.

    What was compiled depends on the pointers' dtypes and alignment and on the constants, never on the sizes,
    which the kernels leave unspecialised.
    """
    if not aligned or not arguments[0].is_cuda:
        kernel[grid](*arguments, **meta)
        return
    types = tuple(a.dtype for a in arguments if isinstance(a, Tensor))
    key = (kernel, arguments[0].device.index, types, tuple(meta.values()))
    found = _compiled.get(key)
    if found is None:
        _compiled[key] = kernel[grid](*arguments, **meta)
    else:
        constants = [value for name, value in meta.items() if name != "num_warps"]
        found[(*grid, 1, 1)[:3]](*arguments, *constants)


@functools.cache
def _plan(tile: Tile, images: int, height: int, width: int, channels: int, min_rows: int) -> _Plan:
    """Splits (height, width), the map that the strips cover, into runs of rows until the chip is full."""
    bc = _channel_block(channels, tile.elements)
    bp = max(tile.elements // bc, 1)
    strips = -(-width // tile.strip)
    threads = images * strips * channels * 32 * tile.warps // tile.elements
    rows = height
    while rows >= 2 * min_rows and threads * -(-height // rows) < LANES:
        rows = -(-rows // 2)
    channel_blocks = -(-channels // bc)
    blocks = -(-images * strips * -(-height // rows) // bp)
    meta = {"R": tile.strip, "BP": bp, "BC": bc, "num_warps": tile.warps}
    return _Plan(blocks * channel_blocks, channel_blocks, rows, meta)


def _mode(mode: str, width: int) -> int:
    if mode == "nearest":
        return 1
    return 2 if width % 2 == 0 else 3


class _Run:
    """One call's packed weights and sizes. Maps are (N, h, w, C); slot 0 is `down`, slot 1 + i is `convs[i]`."""

    def __init__(
        self,
        x: Tensor,
        down: Tensor,
        convs: Sequence[Tensor],
        down_bias: Optional[Tensor],
        conv_biases: Sequence[Tensor],
        mode: str,
    ) -> None:
        self.x = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        self.images, self.channels = x.shape[0], x.shape[1]
        self.level, self.kernel, self.mode = len(convs) - 1, down.shape[-1], mode
        self.sizes = [(x.shape[2], x.shape[3])]
        for _ in range(self.level):
            h, w = self.sizes[-1]
            self.sizes.append(((h + 1) // 2, (w + 1) // 2))
        self.cdiv = divisor(self.channels)
        self.aligned = self.x.data_ptr() % 16 == 0
        self.weights = self._pack(down, convs, down_bias, conv_biases)

    def _pack(
        self, down: Tensor, convs: Sequence[Tensor], down_bias: Optional[Tensor], conv_biases: Sequence[Tensor]
    ) -> Tensor:
        taps = self.kernel * self.kernel
        out = self.empty(len(convs) + 1, taps + 1, self.channels)
        weights = [w.contiguous() for w in (down, *convs)]
        biases = [down if down_bias is None else down_bias, *(conv_biases or convs)]
        spare = [down] * (7 - len(weights))
        kernels.pack_kernel[(len(weights), triton.cdiv(out[0].numel(), 512))](
            *weights,
            *spare,
            *biases,
            *spare,
            out,
            self.channels,
            KK=taps,
            DOWN_BIAS=down_bias is not None,
            BIAS=bool(conv_biases),
            BLOCK=512,
        )
        return out

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.x.device)

    def map(self, level: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.empty(self.images, *self.sizes[level], self.channels, dtype=dtype)

    def plan(self, tile: Tile, level: int) -> _Plan:
        return _plan(tile, self.images, *self.sizes[level], self.channels, TUNING.min_rows)

    def conv(self, f: Tensor, y: Optional[Tensor], slot: int, level: int, out: Tensor) -> Tensor:
        plan = self.plan(TUNING.conv, level)
        _start(
            kernels.conv_kernel,
            (plan.grid,),
            (
                f,
                self.weights if y is None else y,
                self.weights,
                out,
                self.images,
                *self.sizes[level],
                self.channels // self.cdiv,
                plan.rows,
                slot,
            ),
            {
                "CDIV": self.cdiv,
                "K": self.kernel,
                "MODE": 0 if y is None else _mode(self.mode, self.sizes[level][1]),
                **plan.meta,
            },
            self.aligned,
        )
        return out

    def down(self, f: Tensor, level: int) -> Tensor:
        """f_level from f_(level - 1)."""
        plan = self.plan(TUNING.down, level)
        out = self.map(level)
        _start(
            kernels.down_kernel,
            (plan.grid,),
            (f, self.weights, out, self.images, *self.sizes[level - 1], self.channels // self.cdiv, plan.rows, 0),
            {"CDIV": self.cdiv, "K": self.kernel, **plan.meta},
            self.aligned,
        )
        return out

    def pyramid(self) -> tuple[list[Tensor], list[Optional[Tensor]]]:
        """f_0..f_L, and for each the convolution of the level below it, which is resized onto it."""
        features = [self.x]
        for level in range(1, self.level + 1):
            features.append(self.down(features[-1], level))
        below: list[Optional[Tensor]] = [None] * (self.level + 1)
        for i, level in enumerate(range(self.level, 0, -1)):
            below[level - 1] = self.conv(features[level], below[level], 1 + i, level, self.map(level))
        return features, below

    def conv_backward(
        self, g: Tensor, f: Tensor, y: Optional[Tensor], level: int, out: Tensor, partial: Tensor, programs: int
    ) -> Tensor:
        plan = self.plan(TUNING.conv_backward, level)
        conv = self.level - level  # index in convs
        _start(
            kernels_backward.conv_backward_kernel,
            (programs * plan.channel_blocks,),
            (
                g,
                f,
                self.weights if y is None else y,
                self.weights,
                out,
                partial,
                self.images,
                *self.sizes[level],
                self.channels // self.cdiv,
                plan.rows,
                1 + conv,
                programs,
                (self.level + conv) * programs,
            ),
            {
                "CDIV": self.cdiv,
                "K": self.kernel,
                "MODE": 0 if y is None else _mode(self.mode, self.sizes[level][1]),
                **plan.meta,
            },
            self.aligned,
        )
        return out

    def down_backward(
        self, g: Tensor, f: Tensor, rest: Tensor, level: int, out: Tensor, partial: Tensor, programs: int
    ) -> Tensor:
        """Adds to `rest` the gradient of f_(level - 1) by way of f_level."""
        plan = self.plan(TUNING.down_backward, level)
        _start(
            kernels_backward.down_backward_kernel,
            (programs * plan.channel_blocks,),
            (
                g,
                f,
                rest,
                self.weights,
                out,
                partial,
                self.images,
                *self.sizes[level - 1],
                self.channels // self.cdiv,
                plan.rows,
                0,
                programs,
                (level - 1) * programs,
            ),
            {"CDIV": self.cdiv, "K": self.kernel, **plan.meta},
            self.aligned,
        )
        return out

    def resize_backward(self, g: Tensor, level: int) -> Tensor:
        """Gradient of the convolution at `level` from that of the sum above it."""
        out = self.map(level)
        plan = self.plan(TUNING.resize_backward, level)
        height, width = self.sizes[level - 1]
        first, count = (0, 2) if self.mode == "nearest" else (-1, 4) if height % 2 == width % 2 == 0 else (-2, 5)
        bp, bc = plan.meta["BP"], plan.meta["BC"]
        blocks = triton.cdiv(self.images * self.sizes[level][0] * self.sizes[level][1], bp)
        kernels_backward.resize_backward_kernel[(blocks * plan.channel_blocks,)](
            g,
            out,
            self.images,
            height,
            width,
            self.channels // self.cdiv,
            CDIV=self.cdiv,
            NEAREST=self.mode == "nearest",
            FIRST=first,
            COUNT=count,
            BP=bp,
            BC=bc,
            num_warps=plan.meta["num_warps"],
        )
        return out


def forward(
    x: Tensor,
    down: Tensor,
    convs: Sequence[Tensor],
    down_bias: Optional[Tensor],
    conv_biases: Sequence[Tensor],
    mode: str,
    dtype: torch.dtype,
) -> Tensor:
    """The recursion of `recconv2d`; the result, of the given dtype, is channels_last."""
    run = _Run(x, down, convs, down_bias, conv_biases, mode)
    _, below = run.pyramid()
    return run.conv(run.x, below[0], 1 + run.level, 0, run.map(0, dtype)).permute(0, 3, 1, 2)


def backward(
    grad: Tensor,
    x: Tensor,
    down: Tensor,
    convs: Sequence[Tensor],
    down_bias: Optional[Tensor],
    conv_biases: Sequence[Tensor],
    mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, of the weights (level + 2, C, k, k) and of the biases (level + 2, C), down's first."""
    run = _Run(x, down, convs, down_bias, conv_biases, mode)
    g = grad.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    run.aligned = run.aligned and g.data_ptr() % 16 == 0
    features, below = run.pyramid()
    blocks = run.plan(TUNING.conv_backward, 0)
    programs = max(1, min(TUNING.partial_programs, blocks.grid) // blocks.channel_blocks)
    taps = run.kernel * run.kernel
    partial = run.empty((2 * run.level + 1) * programs, taps + 1, run.channels)
    into: list[Tensor] = []  # gradients of the sums f + resize(y), finest first
    for level in range(run.level + 1):
        if level > 0:
            g = run.resize_backward(into[-1], level)
        out = run.map(level, x.dtype if run.level == 0 else torch.float32)
        into.append(run.conv_backward(g, features[level], below[level], level, out, partial, programs))
        below[level] = None
    g = into[-1]
    for level in range(run.level, 0, -1):
        out = run.map(0, x.dtype) if level == 1 else into[level - 1]
        g = run.down_backward(g, features[level - 1], into[level - 1], level, out, partial, programs)
    weights = run.empty(run.level + 2, run.channels, taps)
    biases = run.empty(run.level + 2, run.channels)
    kernels_backward.reduce_kernel[(triton.cdiv((taps + 1) * run.channels, 64), run.level + 2)](
        partial, weights, biases, run.channels, run.level * programs, programs, KK=taps, ROWS=16, BLOCK=64
    )
    shape = (run.level + 2, run.channels, run.kernel, run.kernel)
    return g.permute(0, 3, 1, 2), weights.view(shape), biases
