"""The one training loop, and classification on it."""

from .classification import ClassificationTask, train_classifier, train_on_folders
from .loop import fit
from .loop_settings import LoopSettings
from .result import TrainingResult
from .settings import TrainSettings
from .splits import Splits
from .task import Task

__all__ = [
    "ClassificationTask",
    "LoopSettings",
    "Splits",
    "Task",
    "TrainSettings",
    "TrainingResult",
    "fit",
    "train_classifier",
    "train_on_folders",
]
