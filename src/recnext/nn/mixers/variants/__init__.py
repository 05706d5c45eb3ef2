"""The RecConv designs of the paper's ablation, one a file; `recnext.nn.mixers.registry` names them."""

from .group import GroupRecConv2d
from .recurrent import RecurrentRecConv2d
from .split import SplitRecConv2d
from .transposed import TransposedRecConv2d
from .unpool import UnpoolRecConv2d

__all__ = ["GroupRecConv2d", "RecurrentRecConv2d", "SplitRecConv2d", "TransposedRecConv2d", "UnpoolRecConv2d"]
