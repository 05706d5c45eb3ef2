"""Linear attention on maps: channel-first, in the cheaper of the two orders of multiplication."""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.ops.autocast import autocast_dtype

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
        return (state @ q) / (k.mean(dim=-1, keepdim=True).transpose(-1, -2) @ q + eps)
    weights = k.transpose(-1, -2) @ q / n  # (N, heads, n keys, n queries)
    return (v @ weights) / (weights.sum(dim=-2, keepdim=True) + eps)


def attend(q: Tensor, k: Tensor, v: Tensor, kernel: str, kv_first: bool) -> Tensor:
    """Attention of (N, heads, D, n) queries and keys on (N, heads, E, n) values.

    float16 and bfloat16 are computed in float32, so that sums over n keep their range.

    Args:
        q: queries before the feature map.
        k: keys before the feature map.
        v: values.
        kernel: "elu" (elu + 1), "softplus" (beta 3.5), "relu", or "softmax" for ordinary attention.
        kv_first: the order taken where n is not known, as in an export with dynamic sizes.

    Returns:
        (N, heads, E, n) in the dtype of v.
    """
    order: Optional[bool] = None
    if not torch.jit.is_scripting():
        if torch.compiler.is_exporting() and not isinstance(q.shape[-1], int):
            order = kv_first
        if autocast_dtype(q) is not None:
            with torch.autocast(q.device.type, enabled=False):
                return _attend(q.float(), k.float(), v.float(), kernel, order).to(v.dtype)
    if q.dtype == torch.float16 or q.dtype == torch.bfloat16:
        return _attend(q.float(), k.float(), v.float(), kernel, order).to(v.dtype)
    return _attend(q, k, v, kernel, order)


def _attend(q: Tensor, k: Tensor, v: Tensor, kernel: str, order: Optional[bool]) -> Tensor:
    if kernel == "softmax":
        mixed = F.scaled_dot_product_attention(q.transpose(-1, -2), k.transpose(-1, -2), v.transpose(-1, -2))
        return mixed.transpose(-1, -2)
    return normalized_attention(feature_map(q, kernel), feature_map(k, kernel), v, order)


def feature_map(x: Tensor, kernel: str) -> Tensor:
    """The positive feature map of linear attention: elu + 1, softplus with beta 3.5, or relu."""
    if kernel == "elu":
        return F.elu(x) + 1.0
    if kernel == "softplus":
        return F.softplus(x, beta=3.5)
    return F.relu(x)


# One node for torch.fx: the order of multiplication depends on the size.
torch.fx.wrap("attend")


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
        self.qk = ConvNorm(in_channels, 2 * qk_channels, 1, groups=1 if half_width else 2, **options)
        self.pe = ConvNorm(in_channels, in_channels, 3, padding=1, groups=in_channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        q, k = self.qk(x).flatten(2).unflatten(1, (2, self.num_heads, -1)).unbind(1)  # (N, heads, D, n)
        v = x.flatten(2).unflatten(1, (self.num_heads, -1))  # (N, heads, E, n)
        mixed = attend(q, k, v, self.kernel, self.kv_first)
        return mixed.reshape(batch, channels, height, width) + self.pe(x)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, kernel={self.kernel}"
