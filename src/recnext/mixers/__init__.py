"""Token mixers: RecConv and its variants, recursive attention, linear attention."""

from .conv_norm import ConvNorm, NormLinear
from .linear_attention import LinearAttention
from .recattn import RecAttn2d
from .recconv import RecConv2d

__all__ = ["ConvNorm", "LinearAttention", "NormLinear", "RecAttn2d", "RecConv2d"]
