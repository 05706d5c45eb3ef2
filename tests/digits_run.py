"""A run on the digits that reads most of them: an epoch of the demo's network."""

from pathlib import Path

from recnext.data.digits import CLASS_NAMES, Digits, write_folders
from recnext.demo.run import demo_settings
from recnext.training import Splits, train_classifier


def train_digits(folder: Path) -> Path:
    """A run folder with the digits in ``data``; about 97 % are read right."""
    run = folder / "run"
    write_folders(run / "data")
    splits = Splits(Digits("train"), Digits("val"), CLASS_NAMES, str(run / "data"))
    train_classifier(demo_settings(run, epochs=1), splits=splits)
    return run
