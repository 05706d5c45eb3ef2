"""Exact rewriting of linear attention: one feature map for queries and keys, before they are parted."""

from typing import Optional

import torch
from torch import Tensor, nn

from recnext.nn.mixers import LinearAttention
from recnext.nn.mixers.linear_attention import feature_map, normalized_attention


class MergedFeatures(nn.Module):
    """A fused LinearAttention with half as many operations around its products.

    The feature map stands right behind the convolution, where OpenVINO computes it as a part of that; queries and
    keys are parted by one Split. float16 and bfloat16 are computed in float32 from there on, as in `attend`.

    Args:
        attention: with a feature map, that is any kernel but "softmax".

    Shape:
        (N, C, H, W) to (N, C, H, W).
    """

    def __init__(self, attention: LinearAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        own = self.attention
        batch, channels, height, width = x.shape
        qk, values = own.qk(x), x
        if qk.dtype in (torch.float16, torch.bfloat16):
            qk, values = qk.float(), x.float()
        features = feature_map(qk, own.kernel).flatten(2).unflatten(1, (2 * own.num_heads, -1))
        q, k = features.chunk(2, dim=1)  # (N, heads, D, n)
        v = values.flatten(2).unflatten(1, (own.num_heads, -1))  # (N, heads, E, n)
        order: Optional[bool] = None
        if torch.compiler.is_exporting() and not isinstance(q.shape[-1], int):
            order = own.kv_first
        mixed = normalized_attention(q, k, v, order).to(x.dtype)
        return mixed.reshape(batch, channels, height, width) + own.pe(x)


def merge_features(module: nn.Module) -> nn.Module:
    """A LinearAttention with a feature map as MergedFeatures; any other module as it is."""
    if type(module) is LinearAttention and module.kernel != "softmax":
        return MergedFeatures(module)
    return module
