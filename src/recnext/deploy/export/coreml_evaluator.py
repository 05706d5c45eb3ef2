"""Evaluates a saved Core ML program on any machine, where Apple's runtime is missing.

The program is read back from the package, weights included, and computed operation by operation with PyTorch.
Every result is rounded to the type that the program declares for it, so that a float16 program shows its rounding
and its overflows; sums inside an operation are in float32. A device may round differently.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recnext.errors import RecNextError

from .coreml_evaluator_ops import OPERATIONS, evaluate, operand

_CONSTANTS = ("const", "constexpr_")


class CoreMlProgram:
    """A program read from a package.

    Args:
        path: an .mlpackage folder with an mlprogram.

    Raises:
        RecNextError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import coremltools as ct
        from coremltools.converters.mil.frontend.milproto.load import load

        try:
            model = ct.models.MLModel(str(path), skip_model_load=True)
            spec = model.get_spec()
            program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir)
        except Exception as error:  # protobuf, files, coremltools' own checks
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise RecNextError(f"{path} is not a readable Core ML program: {line}") from None
        self.path = path
        self.description = spec.description
        self.version = int(spec.specificationVersion)
        self.metadata = dict(model.user_defined_metadata)
        self._main = program.functions["main"]
        self.inputs = {name: tuple(var.shape) for name, var in self._main.inputs.items()}
        """Shapes by name; an image is (1, C, H, W) in 0..255."""

    @property
    def operators(self) -> dict[str, int]:
        """How many of each operation, constants left out."""
        names = (op.op_type for op in self._main.operations)
        return dict(Counter(name for name in names if name != "const").most_common())

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Computes the outputs.

        Args:
            inputs: arrays by input name.

        Returns:
            Arrays by output name, float32. A classifier gives its probabilities (1, classes) in the order of the
            labels, under the name of its dictionary.

        Raises:
            RecNextError: wrong inputs, or an operation that the evaluator does not know.
        """
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        if shapes != self.inputs:
            raise RecNextError(f"{self.path} takes {_named(self.inputs)}, not {_named(shapes)}")
        values: dict[str, Tensor] = {
            name: _rounded(torch.from_numpy(np.asarray(inputs[name], np.float32)), var)
            for name, var in self._main.inputs.items()
        }
        with torch.inference_mode():
            for op in self._main.operations:
                if not op.op_type.startswith(_CONSTANTS):
                    self._compute(op, values)
        return {var.name: values[var.name].float().numpy() for var in self._main.outputs if var.name in values}

    def _compute(self, op: Any, values: dict[str, Tensor]) -> None:
        operands = {name: _value(given, values) for name, given in op.inputs.items()}
        if op.op_type == "classify":
            values[op.outputs[1].name] = operands["probabilities"]
            return
        if op.op_type not in OPERATIONS:
            raise RecNextError(
                f"{self.path}: the Core ML evaluator has no operation {op.op_type!r} ({op.name}); it has "
                f"{', '.join(sorted(OPERATIONS))}"
            )
        try:
            results = evaluate(op.op_type, **operands)
        except (ValueError, TypeError, KeyError, RuntimeError, IndexError) as error:
            raise RecNextError(f"{self.path}: {op.op_type} {op.name} cannot be evaluated: {error}") from error
        for var, value in zip(op.outputs, results, strict=True):
            if tuple(value.shape) != tuple(var.shape):
                raise RecNextError(
                    f"{self.path}: {op.op_type} {op.name} gives {tuple(value.shape)}, the program says {var.shape}"
                )
            values[var.name] = _rounded(value, var)


def _value(given: Any, values: Mapping[str, Tensor]) -> Any:
    if given is None:
        return None
    if isinstance(given, (list, tuple)):
        return [_value(part, values) for part in given]
    if given.name in values:
        return values[given.name]
    if given.val is not None:
        return given.val
    if given.op is not None and given.op.op_type.startswith("constexpr_"):
        return operand(given.op.materialized_val_inference())
    return None


def _rounded(value: Tensor, var: Any) -> Tensor:
    from coremltools.converters.mil.mil import types

    return value.half().float() if var.dtype == types.fp16 else value


def _named(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
