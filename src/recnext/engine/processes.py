"""The processes that torchrun or accelerate started, for work that is shared out and not trained."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

from .devices import choose_device

_PATIENCE = timedelta(days=1)  # for a process that has finished its share and waits for the others


@dataclass(frozen=True)
class Processes:
    """This process among its like.

    Args:
        rank: from 0; the first one prints and writes.
        world_size: how many there are.
        device: of this process.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this one prints and writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come this far."""
        if self.world_size > 1:
            torch.distributed.barrier()


@contextmanager
def process_group(device: str = "auto") -> Iterator[Processes]:
    """Joins the other processes, where there are any, and leaves them at the end.

    Args:
        device: auto, cpu, cuda, cuda:N, mps; with several processes each takes the GPU of its number.

    Raises:
        RecNextError: there is no such device.
    """
    chosen = choose_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(0, 1, chosen)
        return
    from accelerate import PartialState

    state = PartialState(cpu=chosen.type == "cpu", timeout=_PATIENCE)
    try:
        yield Processes(state.process_index, state.num_processes, state.device)
    finally:
        state.destroy_process_group()
