"""PyTorch itself: fused, in channels_last, in any precision."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from .network import Network, Runner
from .precision import DTYPES


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
    """Runs the fused network as it is, any size and batch."""
    return runner_of(channels_last_module(network, precision), network, precision)


def runner_of(module: nn.Module, network: Network, precision: str) -> Runner:
    """Calls a channels_last module without gradients and gives float32."""
    dtype, structure, threads = DTYPES[precision], network.structure, network.threads

    def run(x: Tensor) -> Sequence[Tensor]:
        with torch.no_grad(), torch_threads(threads):
            x = x.to(dtype).contiguous(memory_format=torch.channels_last)
            return [output.float().contiguous() for output in structure.flatten(module(x))]

    return run
