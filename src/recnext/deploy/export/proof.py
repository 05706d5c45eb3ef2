"""Whether an exported file computes what the network does, on the shapes it is for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from .spec import ExportSpec
from .targets import Contents, FileRunner

TOLERANCE = {"fp32": 1e-4, "fp16": 5e-3}
"""Largest difference over the outputs' spread. int8 is judged by accuracy."""

Reference = Callable[[np.ndarray], list[np.ndarray]]
"""The original network in PyTorch, in float32, with inputs as the file has them."""


@dataclass(frozen=True)
class Comparison:
    """A file against the original on one input."""

    shape: tuple[int, ...]
    """Of the input."""
    absolute: float
    """Largest difference."""
    relative: float
    """Largest difference over the spread (largest less smallest value) of the original's output, the worst of all
    outputs; infinite where shapes differ or a value of either is not finite."""
    agreement: Optional[float]
    """Share of images with the same likeliest class; None without classes."""


def proof_shapes(spec: ExportSpec) -> list[tuple[int, tuple[int, int]]]:
    """Batches and sizes to compare on.

    A static file has one. Of a dynamic one also another batch, another aspect and odd sides, whose maps have to be
    enlarged to odd sizes at every level. int8 holds for the size that it was calibrated on.
    """
    if not spec.dynamic_batch:
        return [(spec.batch, spec.size)]
    if not spec.dynamic_size or spec.precision == "int8":
        return [(1, spec.size), (3, spec.size)]
    height, width = spec.size
    return [(1, spec.size), (3, spec.size), (1, (height + 32, width)), (3, (height | 1, (width + width // 8) | 1))]


def compare(reference: Reference, run: FileRunner, spec: ExportSpec) -> list[Comparison]:
    """Runs both on noise of each batch and size that the spec is for."""
    rows = []
    for batch, size in proof_shapes(spec):
        x = spec.example(batch, size)
        rows.append(compare_outputs(reference(x), run(x), shape=x.shape, classifier=spec.classifier))
    return rows


def compare_outputs(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], *, shape: tuple[int, ...], classifier: bool
) -> Comparison:
    """One comparison.

    Args:
        expected: the original's outputs.
        actual: the file's.
        shape: of the input.
        classifier: the outputs are (N, classes).
    """
    if [x.shape for x in expected] != [x.shape for x in actual]:
        return Comparison(tuple(shape), float("inf"), float("inf"), 0.0 if classifier else None)
    absolute = relative = 0.0
    for truth, value in zip(expected, actual, strict=True):
        if not (np.isfinite(truth).all() and np.isfinite(value).all()):
            return Comparison(tuple(shape), float("inf"), float("inf"), 0.0 if classifier else None)
        difference = float(np.abs(value.astype(np.float64) - truth).max(initial=0))
        spread = max(float(np.ptp(truth)), float(np.finfo(np.float32).tiny))
        absolute, relative = max(absolute, difference), max(relative, difference / spread)
    agreement = float((expected[0].argmax(1) == actual[0].argmax(1)).mean()) if classifier else None
    return Comparison(tuple(shape), absolute, relative, agreement)


def norms_left(contents: Contents, names: Sequence[str]) -> int:
    """How many BatchNorms a file has."""
    return sum(count for operator, count in contents.operators.items() if operator in names)
