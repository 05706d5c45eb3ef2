"""torch.compile with Inductor's freezing: weights are constants, packed once, and elementwise work is fused."""

import shutil
from typing import cast

import torch
from torch import nn

from .eager import channels_last_module, runner_of
from .network import Network, Runner

_COMPILERS = ("c++", "g++", "clang++", "cl")


def can_compile(device: torch.device) -> bool:
    """Whether Inductor has what it generates code with: a C++ compiler, or Triton on a GPU."""
    return device.type == "cuda" or any(map(shutil.which, _COMPILERS))


def compiled_runner(network: Network, precision: str) -> Runner:
    """Compiles at the first call (tens of seconds) and again at a second batch size, then for all of them.

    Inductor keeps what it compiled in its own cache.
    """
    module = channels_last_module(network, precision)
    compiled = torch.compile(module, options={"freezing": True})
    return runner_of(cast(nn.Module, compiled), network, precision)
