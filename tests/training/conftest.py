from pathlib import Path
from typing import Any

import pytest

from recnext.data.digits import write_folders
from recnext.training import TrainingResult, train_on_folders
from training.runs import settings


@pytest.fixture(scope="session")
def digit_folders(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    write_folders(root, per_class=4)  # 40 images each to train and to evaluate on
    return root


@pytest.fixture
def train(digit_folders):
    def run(output: Path, **changes: Any) -> TrainingResult:
        return train_on_folders(settings(output=str(output), **changes), data=digit_folders)

    return run


@pytest.fixture(autouse=True)
def no_curves(request, monkeypatch):
    """A drawing takes longer than an epoch; the tests of whole runs draw."""
    if request.module.__name__.rpartition(".")[2] != "test_run":
        monkeypatch.setattr("recnext.training.loop.can_draw", lambda: False)
