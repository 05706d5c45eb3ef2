"""Linear attention on maps: channel-first, in the cheaper of the two orders of multiplication."""

from typing import Any, Optional, Tuple  # noqa: UP035 (TorchScript reads Tuple)

import torch
import torch.nn.functional as F
from timm.models import register_notrace_function
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.ops.autocast import autocast_dtype, disabled

from .conv_norm import ConvNorm

KERNELS = ("elu", "softplus", "relu", "softmax")


def key_value_first(n: int, qk_dim: int, v_dim: int) -> bool:
    """True where (v kᵀ) q takes no more multiplications than v (kᵀ q), for n positions of one head."""
    return 2 * qk_dim * v_dim <= n * (qk_dim + v_dim)


def normalized_attention(q: Tensor, k: Tensor, v: Tensor, kv_first: Optional[bool] = None, eps: float = 1e-6) -> Tensor:
    """Linear attention of features that are already positive, divided by its sum.

    Args:
        q: (N, heads, D, n), the feature map of the queries.
        k: (N, heads, D, n), that of the keys.
        v: (N, heads, E, n), the values.
        kv_first: order of multiplication; None takes the cheaper one for n, D and E.
        eps: added to the sum.

    Returns:
        (N, heads, E, n). Both orders are equal in exact arithmetic.
    """
    n = q.shape[-1]
    if kv_first is None:
        kv_first = key_value_first(n, q.shape[-2], v.shape[-2])
    if kv_first:
        state = v @ k.transpose(-1, -2) / n  # (N, heads, E, D)
        return (state @ q) / (k.sum(dim=-1, keepdim=True).transpose(-1, -2) / n @ q + eps)
    weights = k.transpose(-1, -2) @ q / n  # (N, heads, n keys, n queries)
    return (v @ weights) / (weights.sum(dim=-2, keepdim=True) + eps)


def feature_map(x: Tensor, kernel: str) -> Tensor:
    """The positive feature map of linear attention: elu + 1, softplus with beta 3.5, or relu."""
    if kernel == "elu":
        return F.elu(x) + 1.0
    if kernel == "softplus":
        return F.softplus(x, beta=3.5)
    return F.relu(x)


@register_notrace_function
def features(qk: Tensor, kernel: str) -> Tensor:
    """The feature map of queries and keys together; none for "softmax".

    float16 and bfloat16 become float32, so that sums over positions keep their range.
    """
    if qk.dtype == torch.float16 or qk.dtype == torch.bfloat16:
        qk = qk.float()
    return qk if kernel == "softmax" else feature_map(qk, kernel)


@register_notrace_function
def attend(q: Tensor, k: Tensor, v: Tensor, kernel: str, kv_first: bool) -> Tensor:
    """Attention of queries and keys, as `features` gives them, on values.

    Args:
        q: (N, heads, D, n), queries.
        k: (N, heads, D, n), keys.
        v: (N, heads, E, n), values of any dtype.
        kernel: that of `features`.
        kv_first: the order taken where n is not known, as in an export with dynamic sizes.

    Returns:
        (N, heads, E, n) in the dtype of v, computed in that of q.
    """
    order: Optional[bool] = None
    if not torch.jit.is_scripting():
        if torch.compiler.is_exporting() and not isinstance(q.shape[-1], int):
            order = kv_first
        if autocast_dtype(q) is not None:
            with disabled(q.device):
                return _attend(q, k, v, kernel, order)
    return _attend(q, k, v, kernel, order)


def _attend(q: Tensor, k: Tensor, v: Tensor, kernel: str, order: Optional[bool]) -> Tensor:
    values = v if v.dtype == q.dtype else v.to(q.dtype)
    if kernel == "softmax":
        mixed = F.scaled_dot_product_attention(q.transpose(-1, -2), k.transpose(-1, -2), values.transpose(-1, -2))
        mixed = mixed.transpose(-1, -2)
    else:
        mixed = normalized_attention(q, k, values, order)
    return mixed if v.dtype == q.dtype else mixed.to(v.dtype)


# One node each for plain torch.fx too: dtypes and the order of multiplication are not known to it.
torch.fx.wrap("attend")
torch.fx.wrap("features")


class LinearAttention(nn.Module):
    """Linear attention whose value is its input, with a depthwise 3x3 positional term.

    Published form of the A and L series: queries and keys come from one 1x1 convolution with norm, heads are
    contiguous groups of channels, and ``pe(x)`` is added.

    Args:
        in_channels: channels C of input and output.
        num_heads: heads; they divide the query and the value channels.
        half_width: queries and keys of C/2 channels from an ungrouped convolution, instead of C from one with
            two groups.
        kernel: feature map, one of "elu", "softplus", "relu", or "softmax" for ordinary attention.
        bias: gives the convolutions a bias, as in the L series.
        kv_first: order taken where the size is unknown (exports with dynamic sizes); otherwise the cheaper one.
        norm: a BatchNorm behind each convolution.
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, H, W) to (N, C, H, W), any H and W.

    Raises:
        RecNextError: an unknown kernel, or heads that do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        num_heads: int = 1,
        *,
        half_width: bool = False,
        kernel: str = "elu",
        bias: bool = False,
        kv_first: bool = True,
        norm: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        qk_channels = in_channels // 2 if half_width else in_channels
        if in_channels % num_heads or qk_channels % num_heads or (half_width and in_channels % 2):
            raise RecNextError(
                f"LinearAttention: {num_heads} heads do not divide {in_channels} channels"
                f"{' and their half' if half_width else ''}; take a divisor"
            )
        if kernel not in KERNELS:
            raise RecNextError(f"LinearAttention: kernel={kernel!r} must be one of {', '.join(KERNELS)}")
        self.num_heads = num_heads
        self.kernel = kernel
        self.kv_first = kv_first
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        conv: Any = ConvNorm if norm else nn.Conv2d
        self.qk = conv(in_channels, 2 * qk_channels, 1, groups=1 if half_width else 2, **options)
        self.pe = conv(in_channels, in_channels, 3, padding=1, groups=in_channels, **options)

    def split(self, qk: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        """Queries and keys (N, heads, D, n) of the map that `qk` gives; heads are contiguous groups of channels."""
        q, k = qk.flatten(2).unflatten(1, (2 * self.num_heads, -1)).chunk(2, 1)
        return q, k

    def qkv(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:  # noqa: UP006
        """Features of queries and keys, (N, heads, D, n), and values, (N, heads, E, n), of a map (N, C, H, W)."""
        q, k = self.split(features(self.qk(x), self.kernel))
        return q, k, x.flatten(2).unflatten(1, (self.num_heads, -1))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What the queries see of the values, (..., E, n)."""
        return attend(q, k, v, self.kernel, self.kv_first)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)
        return self.mix(q, k, v).reshape(x.shape) + self.pe(x)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, kernel={self.kernel}"
