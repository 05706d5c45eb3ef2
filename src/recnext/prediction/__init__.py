"""Classifying images from files, folders, patterns and URLs."""

from .classify import ClassScore, Prediction, Unreadable, classify
from .inputs import count_images, find_images

__all__ = ["ClassScore", "Prediction", "Unreadable", "classify", "count_images", "find_images"]
