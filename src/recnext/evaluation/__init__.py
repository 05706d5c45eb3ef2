"""Accuracy of a classifier on labelled images, and its reports."""

from .accuracy import Accuracy, AccuracyMeter, evaluate
from .report import write_per_class

__all__ = ["Accuracy", "AccuracyMeter", "evaluate", "write_per_class"]
