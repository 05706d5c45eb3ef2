"""RecConv for sequences and volumes: the recursion of RecConv2d in one and three dimensions, and causal in one.

The laws carry over from two dimensions to d: a receptive field of k·2^level along every axis, (level + 2) k^d c
parameters, and at most (2^d + 1) / (2^d - 1) times the cost of one depthwise convolution: 3 for sequences,
5/3 for maps, 9/7 for volumes.
"""

from typing import Any, List  # noqa: UP035 (TorchScript reads List)

import torch.nn.functional as F
from torch import Tensor, nn

from .recursion import PerLevel, RecConvNd, Recursion


class RecConv1d(RecConvNd):
    """Recursive depthwise convolution of sequences (RecConv, arXiv 2412.19628 section 3, in one dimension).

    Children `down`, one stride-2 convolution that all levels share, and `convs`, coarsest level first. Without
    bias it has (level + 2) k c parameters. float16 can overflow between the levels; bfloat16 does not.

    Args:
        in_channels: channels C of input and output.
        kernel_size: k, odd.
        bias: adds a bias to every convolution.
        level: number of times the sequence is halved; 0 is a plain depthwise convolution.
        mode: how a level is lengthened, "linear" (align_corners False) or "nearest".
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, T) to (N, C, T), any T.

    Raises:
        RecNextError: an even kernel, a negative level or an unknown mode.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
        level: int = 2,
        mode: str = "linear",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        dd = {"device": device, "dtype": dtype}
        modes = ("linear", "nearest")
        super().__init__(nn.Conv1d, modes, in_channels, kernel_size, bias=bias, level=level, mode=mode, dd=dd)


class RecConv3d(RecConvNd):
    """Recursive depthwise convolution of volumes (RecConv, arXiv 2412.19628 section 3, in three dimensions).

    Children `down`, one stride-2 convolution that all levels share, and `convs`, coarsest level first. Without
    bias it has (level + 2) k³ c parameters. float16 can overflow between the levels; bfloat16 does not.

    Args:
        in_channels: channels C of input and output.
        kernel_size: k, odd, along all three axes.
        bias: adds a bias to every convolution.
        level: number of times the volume is halved; 0 is a plain depthwise convolution.
        mode: how a level is enlarged, "trilinear" (align_corners False) or "nearest".
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, D, H, W) to (N, C, D, H, W), any D, H and W.

    Raises:
        RecNextError: an even kernel, a negative level or an unknown mode.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 3,
        bias: bool = False,
        level: int = 2,
        mode: str = "trilinear",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        dd = {"device": device, "dtype": dtype}
        modes = ("trilinear", "nearest")
        super().__init__(nn.Conv3d, modes, in_channels, kernel_size, bias=bias, level=level, mode=mode, dd=dd)


class CausalConv1d(nn.Conv1d):
    """A convolution whose output at t sees the k inputs up to t alone."""

    def forward(self, x: Tensor) -> Tensor:
        past = (self.kernel_size[0] - 1, 0)
        return F.conv1d(F.pad(x, past), self.weight, self.bias, self.stride, 0, 1, self.groups)


class CausalRecConv1d(Recursion):
    """RecConv1d whose output at t depends on the input up to t alone.

    Every convolution sees its last k samples. Level i has a sample at each multiple of 2^i, made from the input up
    to there, and holds it until the next: interpolation would look ahead. Children and parameters as RecConv1d.

    Args:
        in_channels: channels C of input and output.
        kernel_size: k, odd as in RecConv1d.
        bias: adds a bias to every convolution.
        level: number of times the sequence is halved; 0 is a plain causal depthwise convolution.
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, T) to (N, C, T), any T.

    Raises:
        RecNextError: an even kernel or a negative level.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
        level: int = 2,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(kernel_size=kernel_size, level=level)
        options: dict[str, Any] = {"groups": in_channels, "bias": bias, "device": device, "dtype": dtype}
        self.down = CausalConv1d(in_channels, in_channels, kernel_size, stride=2, **options)
        self.convs = PerLevel(CausalConv1d(in_channels, in_channels, kernel_size, **options) for _ in range(level + 1))

    def rise(self, y: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        above = waiting.pop()
        # one sample too many: a cut that even and odd lengths share keeps exported programs general
        return above + F.pad(y, (0, 1)).repeat_interleave(2, -1)[:, :, : above.shape[2]]
