"""The networks, one family a file. Importing this package registers them with timm."""

from .base import RecNext
from .mlla import Mlla
from .recnext_a import RecNextA
from .recnext_l import RecNextL
from .recnext_m import RecNextM

__all__ = ["Mlla", "RecNext", "RecNextA", "RecNextL", "RecNextM"]
