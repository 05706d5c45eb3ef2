"""Whether the machine gives what it can: neighbours on the same processor make times worthless."""

import time
from dataclasses import dataclass, field

import torch

SIDE = 384
PRODUCTS = 6


@dataclass
class Steady:
    """Watches the speed of a fixed product of matrices, a few milliseconds at a time.

    Two processors of a virtual machine may be moved to one core of the host, or share it with a neighbour. Then
    products take up to twice as long, memory hardly longer, and a ratio of two networks shifts by a fifth.
    """

    share: float = 0.85
    """Of the best speed seen, below which the machine counts as disturbed."""
    patience: float = 30.0
    """Seconds to wait in all until it is not."""
    best: float = 0.0
    """Float32 GFLOP/s of the product, with torch's threads."""
    waited: float = 0.0
    """Seconds spent waiting."""
    discarded: int = 0
    """Turns that were measured while it was disturbed."""
    _matrices: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._matrices = (torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE), torch.empty(SIDE, SIDE))
        for _ in range(3):
            self.undisturbed()

    def undisturbed(self) -> bool:
        """Whether the product runs as fast as it has before."""
        speed = self._speed()
        self.best = max(self.best, speed)
        return speed >= self.share * self.best

    def wait(self) -> None:
        """Returns when the machine is undisturbed, or when patience is at an end."""
        while not self.undisturbed() and self.waited < self.patience:
            time.sleep(0.25)
            self.waited += 0.25

    def describe(self) -> str:
        """One line for a report."""
        return (
            f"matrix products at {self.best:.0f} GFLOP/s; {self.discarded} turns discarded and {self.waited:.0f} s "
            f"waited while they ran below {self.share:.0%} of that"
        )

    def _speed(self) -> float:
        left, right, out = self._matrices
        seconds = []
        for _ in range(PRODUCTS):
            start = time.perf_counter()
            torch.mm(left, right, out=out)
            seconds.append(time.perf_counter() - start)
        return 2 * SIDE**3 / sorted(seconds)[PRODUCTS // 2] / 1e9
