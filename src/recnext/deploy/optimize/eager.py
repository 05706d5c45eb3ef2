"""PyTorch itself: fused, in channels_last, in any precision; with packed weights, or compiled by Inductor."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from .network import LOG, Network, Runner, first_line, flatten, relative_error
from .packed import can_pack, pack
from .precision import DTYPES, TOLERANCE

_COMPILERS = ("c++", "g++", "clang++", "cl")


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Sets PyTorch's number of threads for a while."""
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def channels_last_module(network: Network, precision: str) -> nn.Module:
    """A copy of the fused network in channels_last and in a precision."""
    module = deepcopy(network.module).to(DTYPES[precision])
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def eager_runner(network: Network, precision: str) -> Runner:
    """Runs the fused network, with packed weights where this PyTorch has them, any size and batch."""
    plain = runner_of(channels_last_module(network, precision), network, precision)
    if not can_pack(network.device, DTYPES[precision]):
        return plain
    try:
        example = network.example.to(DTYPES[precision]).contiguous(memory_format=torch.channels_last)
        packed = runner_of(pack(channels_last_module(network, precision), example), network, precision)
        error = relative_error(packed(network.example), plain(network.example))
        if error > TOLERANCE[precision]:
            raise ArithmeticError(f"outputs differ by {error:.1e} of their spread")
    except Exception as error:  # undocumented operators may raise anything
        LOG.debug("torch: weights are not packed: %s", first_line(error))
        return plain
    return packed


def runner_of(module: nn.Module, network: Network, precision: str) -> Runner:
    """Calls a channels_last module without gradients and gives float32."""
    dtype, threads = DTYPES[precision], network.threads

    def run(x: Tensor) -> Sequence[Tensor]:
        with torch.no_grad(), torch_threads(threads):
            x = x.to(dtype).contiguous(memory_format=torch.channels_last)
            return [output.float().contiguous() for output in flatten(module(x))]

    return run


def can_compile(device: torch.device) -> bool:
    """Whether Inductor has what it generates code with: a C++ compiler, or Triton on a GPU."""
    return device.type == "cuda" or any(map(shutil.which, _COMPILERS))


def compiled_runner(network: Network, precision: str) -> Runner:
    """Compiles with weights as constants, packed once, and elementwise work fused.

    It compiles at the first call (tens of seconds) and again at a second batch size, then for all of them. Inductor
    keeps what it compiled in its own cache.
    """
    compiled = torch.compile(channels_last_module(network, precision), options={"freezing": True})
    return runner_of(cast(nn.Module, compiled), network, precision)
