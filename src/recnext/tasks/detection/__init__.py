"""Object detection and instance segmentation: Mask R-CNN on RecNeXt and other backbones."""

from .checkpoint import load
from .config import DetectorConfig
from .model import Detector, create

__all__ = ["Detector", "DetectorConfig", "create", "load"]
