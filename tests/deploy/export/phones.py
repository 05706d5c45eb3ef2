"""What the tests of the three formats for phones share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from recnext.deploy.export import Exported, Target, described, export_to

ODD = (56, 72)
"""The A network's coarsest maps are resized from 4x5 to 7x9."""
FAMILIES = ("recnext_m1", "recnext_a1", "recnext_t", "recnext_t_share_channel")


def exported(target: Target, folder: Path, name: str, size: tuple[int, int] = ODD, **choices: Any) -> Exported:
    """A network of five classes and random weights, or with `features` its four maps."""
    torch.manual_seed(0)
    model: dict[str, Any] = {"features_only": True} if choices.pop("features", False) else {"num_classes": 5}
    network = timm.create_model(name, **model).eval()
    return export_to(target, network, described(network, name=name, size=size, **choices), folder)


def full_depth(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that takes minutes a network: only `make test-export` runs it."""
    asked = pytest.mark.skipif("RECNEXT_FULL_EXPORTS" not in os.environ, reason="minutes a network: make test-export")
    return asked(pytest.mark.slow(test))


def check_full_depth(target: Target, folder: Path, name: str, precision: str) -> None:
    """One network of each family, as it is published but for its five classes, equals its file."""
    made = exported(target, folder, name, size=(224, 224), precision=precision)
    assert made.problem == ""
    assert made.norms == 0
    assert made.path.exists()
    assert made.comparisons[0].relative < {"fp32": 1e-5, "fp16": 5e-3}[precision]


def every_full_depth(test: Callable[..., None]) -> Callable[..., None]:
    """Gives a test the names of `FAMILIES` and both precisions, as `full_depth`."""
    named = pytest.mark.parametrize("name", FAMILIES)
    return full_depth(named(pytest.mark.parametrize("precision", ["fp32", "fp16"])(test)))
