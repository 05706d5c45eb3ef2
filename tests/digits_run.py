"""A run on the digits that reads most of them: an epoch of the demo's network."""

from functools import cache
from pathlib import Path

from recnext.study.demo.classification import demo_settings
from recnext.study.demo.digits import CLASS_NAMES, Digits, write_folders
from recnext.tasks.classification.data import Splits
from recnext.tasks.classification.task import train_classifier


@cache
def train_digits(base: Path) -> Path:
    """A run folder in `base`, made once, with the digits in its ``data``; about 97 % are read right."""
    run = base / "digits_run"
    write_folders(run / "data")
    splits = Splits(Digits("train"), Digits("val"), CLASS_NAMES, str(run / "data"))
    train_classifier(demo_settings(run, epochs=1), splits=splits)
    return run
