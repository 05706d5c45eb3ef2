"""Token mixers: RecConv and its variants, recursive attention, linear attention."""

from .conv_norm import ConvNorm, NormLinear
from .linear_attention import LinearAttention
from .recattn import RecAttn2d
from .recconv import RecConv2d
from .recconv_nd import CausalRecConv1d, RecConv1d, RecConv3d

__all__ = [
    "CausalRecConv1d",
    "ConvNorm",
    "LinearAttention",
    "NormLinear",
    "RecAttn2d",
    "RecConv1d",
    "RecConv2d",
    "RecConv3d",
]
