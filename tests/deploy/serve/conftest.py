from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.serve.running import running
from digits_run import train_digits
from recnext.checkpoints import load
from recnext.deploy.serve.classifier import ServedClassifier


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return train_digits(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def classifier(run) -> ServedClassifier:
    network = load(checkpoint=run, fused=True)
    return ServedClassifier(network, name="digits", backend="torch", precision="f32", threads=1)


@pytest.fixture(scope="session")
def digit(run) -> Path:
    """A held-out seven."""
    return sorted((run / "data" / "val" / "7").iterdir())[0]


@pytest.fixture
def start(classifier) -> Iterator:
    """Starts servers in threads; they end with the test."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(running(classifier, **changes))


@pytest.fixture(scope="module")
def server(classifier) -> Iterator:
    """One server for the tests of a module."""
    with running(classifier) as started:
        yield started
