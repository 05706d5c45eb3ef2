from pathlib import Path
from typing import Any

import pytest

from engine.runs import settings
from recnext.engine import run as engine
from recnext.engine.result import TrainingResult
from recnext.study.demo.digits import write_folders
from recnext.tasks.classification.job import ClassificationJob


@pytest.fixture(scope="session")
def digit_folders(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    write_folders(root, per_class=4)  # 40 images each to train and to evaluate on
    return root


@pytest.fixture
def train(digit_folders):
    def run(output: Path, **changes: Any) -> TrainingResult:
        return engine.train(ClassificationJob(), settings(output=str(output), **changes), data=digit_folders)

    return run


@pytest.fixture(autouse=True)
def no_curves(request, monkeypatch):
    """A drawing takes longer than an epoch; the tests of whole runs draw."""
    if request.module.__name__.rpartition(".")[2] != "test_run":
        monkeypatch.setattr("recnext.engine.loop.can_draw", lambda: False)
