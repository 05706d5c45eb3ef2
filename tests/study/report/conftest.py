from pathlib import Path

import pytest

from digits_run import train_digits


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return train_digits(tmp_path_factory.getbasetemp())
