"""Reading weights from anywhere and writing them as safetensors."""

from .loading import load
from .metadata import CheckpointMetadata, read_metadata
from .saving import convert, save

__all__ = ["CheckpointMetadata", "convert", "load", "read_metadata", "save"]
