"""A network ready for the backends: fused, in eval mode, with its example and what it returns."""

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.fusion import fuse

from .lowering import lower

LOG = logging.getLogger("recnext")

Runner = Callable[[Tensor], Sequence[Tensor]]
"""Maps (N, C, H, W) float32 to the network's outputs in a flat list of float32 tensors."""


@dataclass(frozen=True)
class Network:
    """What every backend starts from."""

    module: nn.Module
    """Fused copy in float32, eval mode."""
    example: Tensor
    """(N, C, H, W) float32, on the device to compute on."""
    expected: list[Tensor]
    """What the original network gives for the example."""
    kind: type
    """Of what it returns: a tensor, a list or a tuple of them."""
    threads: int
    programs: dict[tuple[int, ...], dict[str, bytes]] = field(default_factory=dict)
    """Exported programs by image size (C, H, W): the runtimes share them."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.example.device

    def lowered(self) -> nn.Module:
        """A copy without the layers that the CPU runtimes compute slowly."""
        return lower(deepcopy(self.module))


def prepare(model: nn.Module, example: Tensor, threads: int) -> Network:
    """Fuses a copy of a network and runs the original on the example.

    Raises:
        RecNextError: not a network or not an image batch, or the one does not run on the other.
    """
    if not isinstance(model, nn.Module):
        raise RecNextError(f"optimize: model is {type(model).__name__}; expected a torch.nn.Module")
    if not isinstance(example, Tensor) or example.ndim != 4 or not example.is_floating_point():
        what = f"{example.dtype} {tuple(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise RecNextError(f"optimize: example_input is {what}; expected a float tensor (N, C, H, W)")
    if threads < 1:
        raise RecNextError(f"optimize: threads={threads} must be 1 or more")
    example = example.detach().float().contiguous()
    with torch.no_grad():
        original = deepcopy(model).eval().float().to(example.device)
        outputs = run(original, example, "example_input")
        expected = flatten(outputs)
        fused = fuse(original)
    for parameter in fused.parameters():
        parameter.requires_grad_(False)
    return Network(fused, example, expected, type(outputs), threads)


def flatten(outputs: Any) -> list[Tensor]:
    """What a network returns, a tensor or a list or tuple of them, as a list: runtimes know no other.

    Raises:
        RecNextError: it returns something else.
    """
    found = [outputs] if isinstance(outputs, Tensor) else outputs
    if not isinstance(found, (list, tuple)) or not found or not all(isinstance(part, Tensor) for part in found):
        raise RecNextError(
            f"optimize: the model returns {type(outputs).__name__}; expected a tensor, or a list or tuple of tensors"
        )
    return list(found)


def restore(tensors: Sequence[Tensor], kind: type) -> Any:
    """The inverse of `flatten`, for outputs of a kind."""
    if issubclass(kind, Tensor):
        return tensors[0]
    return list(tensors) if issubclass(kind, list) else tuple(tensors)


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


def run(module: Callable[[Tensor], Any], x: Tensor, name: str) -> Any:
    """Calls a network; its complaint about the input becomes one line.

    Raises:
        RecNextError: the network does not run on this input.
    """
    try:
        return module(x)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise RecNextError(
            f"optimize: the model does not run on {name} of shape {tuple(x.shape)}: {first_line(error)}"
        ) from error


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
