"""Fast exact implementations of the recursion, and the choice among them."""

from .dispatch import choose
from .recconv import recconv2d
from .recompute import recconv2d_recompute

__all__ = ["choose", "recconv2d", "recconv2d_recompute"]
