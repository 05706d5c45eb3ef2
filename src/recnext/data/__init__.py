"""Images in: class folders, the embedded digits, transforms, and loading whose randomness can be replayed."""

from .folders import ClassFolder, ClassFolders, open_class_folders
from .loading import Batch, make_loader
from .transforms import ImagePreparation, normalise

__all__ = [
    "Batch",
    "ClassFolder",
    "ClassFolders",
    "ImagePreparation",
    "make_loader",
    "normalise",
    "open_class_folders",
]
