"""A run on the digits that reads most of them: an epoch of the demo's network."""

from functools import cache
from pathlib import Path

from recnext.data import DataSplits
from recnext.engine.run import train
from recnext.study.demo.classification import demo_settings
from recnext.study.demo.digits import CLASS_NAMES, Digits, write_folders
from recnext.tasks.classification.job import ClassificationJob


@cache
def train_digits(base: Path) -> Path:
    """A run folder in `base`, made once, with the digits in its ``data``; about 97 % are read right."""
    run = base / "digits_run"
    write_folders(run / "data")
    splits = DataSplits(train=Digits("train"), val=Digits("val"), class_names=CLASS_NAMES, source=str(run / "data"))
    train(ClassificationJob(), demo_settings(run, epochs=1), data=splits)
    return run
