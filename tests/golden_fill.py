"""Deterministic weights and inputs of the golden values: a function of the state-dict key alone.

The values in tests/golden were made once from the published networks with exactly this filling.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"
_QUIET = ("channel_mixer.2.norm.weight", "rep_mixer.lk.norm.weight", "rep_mixer.sk.norm.weight")


def golden(name: str = "models.json") -> dict[str, Any]:
    return json.loads((GOLDEN / name).read_text())


def _rng(text: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(text.encode()))


def golden_tensor(key: str, shape: tuple[int, ...], salt: str = "") -> Tensor:
    """The float32 tensor that belongs to a state-dict key."""
    rng = _rng(salt + key)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.long)
    if leaf == "running_var":
        values = rng.uniform(0.5, 1.5, shape)
    elif leaf in ("running_mean", "bias"):
        values = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        values = rng.uniform(0.5, 1.5, shape) * (0.25 if key.endswith(_QUIET) else 1.0)
    else:
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def fill(model: nn.Module, salt: str = "") -> nn.Module:
    """Fills every tensor of a model, `rotations` buffers left as built, and returns the model."""
    state = model.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            if key.rsplit(".", 1)[-1] != "rotations":
                value.copy_(golden_tensor(key, tuple(value.shape), salt))
    return model


def golden_input(shape: tuple[int, ...], salt: str = "") -> Tensor:
    return torch.from_numpy(_rng(salt + "input").standard_normal(shape).astype(np.float32))


def assert_golden(
    actual: Tensor, expected: dict[str, Any], *, tolerance: float = 1e-3, relative_to: str = "element"
) -> None:
    """Compares shape, first values, sum and absolute sum.

    `relative_to="abs_sum"` judges the first values by the tensor's mean magnitude instead of their own.
    """
    assert list(actual.shape) == expected["shape"]
    flat = actual.detach().double().flatten()
    scale = expected["abs_sum"] / flat.numel()
    head = torch.tensor(expected["head"], dtype=torch.float64)
    allowed = tolerance * scale + (tolerance * head.abs() if relative_to == "element" else 0.0)
    error = (flat[: head.numel()] - head).abs()
    assert bool((error <= allowed).all()), f"first values differ by {error.tolist()}"
    assert abs(flat.sum().item() - expected["sum"]) <= tolerance * expected["abs_sum"]
    assert abs(flat.abs().sum().item() - expected["abs_sum"]) <= tolerance * expected["abs_sum"]
