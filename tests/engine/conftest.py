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
    """Trains on the digits; `job`, `data`, `given`, `on_step` and `on_period` are the engine's, the rest settings."""

    def run(output: Path, *, job: Any = None, data: Any = None, **options: Any) -> TrainingResult:
        engines = {name: options.pop(name) for name in ("given", "on_step", "on_period") if name in options}
        chosen = settings(output=str(output), **options)
        return engine.train(job or ClassificationJob(), chosen, data=data or digit_folders, **engines)

    return run
