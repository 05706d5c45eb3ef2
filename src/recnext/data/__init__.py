"""Images in: class folders, the embedded digits, transforms, and loading whose randomness can be replayed."""

from .augmentation import Augmentation
from .batch import Batch
from .folders import ClassFolder, open_class_folders
from .labelled import DataSplits
from .loading import make_loader
from .sources import open_dataset, open_split
from .transforms import ImagePreparation, normalise, prepare_batch

__all__ = [
    "Augmentation",
    "Batch",
    "ClassFolder",
    "DataSplits",
    "ImagePreparation",
    "make_loader",
    "normalise",
    "open_class_folders",
    "open_dataset",
    "open_split",
    "prepare_batch",
]
