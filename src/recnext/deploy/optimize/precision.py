"""Which precisions a machine computes in hardware, and which a backend offers."""

from collections.abc import Callable
from typing import Any, Optional

import torch

from recnext.precision import parse_precision

TOLERANCE = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02}
"""Largest error of an optimised network, relative to the spread of the outputs of the original."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _torch_says(name: str) -> bool:
    probe: Optional[Callable[[], Any]] = getattr(torch.cpu, name, None)
    return bool(probe()) if probe is not None else False


def native_precisions(device: torch.device) -> tuple[str, ...]:
    """The precisions that the device multiplies in hardware, fastest first.

    A CPU has bfloat16 if it has AMX or AVX512-BF16; others would emulate it, slower than float32.
    """
    if device.type == "cuda":
        return ("bf16", "fp16", "fp32") if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp16", "fp32")
    if device.type == "cpu" and any(map(_torch_says, ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))):
        return ("bf16", "fp32")
    return ("fp32",)


def wanted_precisions(precision: str, device: torch.device) -> tuple[str, ...]:
    """What to try for a request: the request itself, or for "auto" float32 and the device's fastest.

    Raises:
        RecNextError: an unknown precision.
    """
    name = parse_precision(precision)
    return tuple(dict.fromkeys((native_precisions(device)[0], "fp32"))) if name == "auto" else (name,)
