"""The order of the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Training comes first: its runs are forked from the test process, and PyTorch refuses that once autograd has
    started threads of its own in it, which some tests of other parts make it do."""
    items.sort(key=lambda item: "engine" not in item.path.parts)
