"""Semantic segmentation: Semantic FPN on a RecNeXt, its training, evaluation and prediction."""

from .checkpoint import load
from .losses import segmentation_loss
from .model import SemanticFPN, build

__all__ = ["SemanticFPN", "build", "load", "segmentation_loss"]
