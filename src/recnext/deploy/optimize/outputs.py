"""What a network returns, as a flat list and back: runtimes know lists of tensors only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recnext.errors import RecNextError


@dataclass(frozen=True)
class Structure:
    """A tensor, or a list or tuple of tensors."""

    kind: str
    """"tensor", "list" or "tuple"."""

    def flatten(self, outputs: Any) -> list[Tensor]:
        """The tensors in order."""
        return [outputs] if self.kind == "tensor" else list(outputs)

    def build(self, tensors: Sequence[Tensor]) -> Any:
        """The inverse of `flatten`."""
        if self.kind == "tensor":
            return tensors[0]
        return list(tensors) if self.kind == "list" else tuple(tensors)


def structure_of(outputs: Any) -> Structure:
    """The structure of a network's outputs.

    Raises:
        RecNextError: something other than a tensor or a flat list or tuple of tensors.
    """
    if isinstance(outputs, Tensor):
        return Structure("tensor")
    if isinstance(outputs, (list, tuple)) and outputs and all(isinstance(part, Tensor) for part in outputs):
        return Structure("list" if isinstance(outputs, list) else "tuple")
    raise RecNextError(
        f"optimize: the model returns {type(outputs).__name__}; expected a tensor, or a list or tuple of tensors"
    )


def relative_error(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference over the spread (standard deviation) of what is expected, the worst of all outputs.

    Infinite where shapes differ or a value is not a number.
    """
    if len(outputs) != len(expected):
        return float("inf")
    worst = 0.0
    for output, truth in zip(outputs, expected, strict=True):
        if output.shape != truth.shape:
            return float("inf")
        output, truth = output.detach().double().cpu(), truth.detach().double().cpu()
        largest = float(truth.abs().max()) if truth.numel() else 0.0
        spread = float(truth.std()) if truth.numel() > 1 else largest
        difference = float((output - truth).abs().max()) if truth.numel() else 0.0
        error = difference / max(spread, 1e-6 * largest, torch.finfo(torch.float32).tiny)
        worst = max(worst, error if error == error else float("inf"))  # NaN is not equal to itself
    return worst
