"""Fast exact implementations of the recursion, and the choice among them."""

from .dispatch import fast_recconv2d, use_triton
from .recconv import recconv2d
from .recompute import recconv2d_recompute

__all__ = ["fast_recconv2d", "recconv2d", "recconv2d_recompute", "use_triton"]
