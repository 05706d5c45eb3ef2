"""What a conversion did: each layer, what it cost before and after, and how near the new one is."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Optional

from torch import nn


@dataclass(frozen=True)
class Replacement:
    """One convolution and the RecConv in its place.

    Attributes:
        name: of the module in the network.
        channels: of its output.
        kernel: (height, width) in pixels that the convolution covered, dilation included.
        stride: of the convolution.
        kernel_size: k of RecConv.
        level: of RecConv.
        parameters: before and after.
        macs: multiply-accumulates for one input, before and after; None if no input size is known.
        error: relative root mean square error of RecConv's impulse response to the convolution's, over all
            places in a cell of 2^level pixels; None if RecConv was not fitted.
    """

    name: str
    channels: int
    kernel: tuple[int, int]
    stride: int
    kernel_size: int
    level: int
    parameters: tuple[int, int]
    macs: Optional[tuple[int, int]]
    error: Optional[float]

    @property
    def receptive_field(self) -> int:
        """k·2^level pixels, at least the larger side of `kernel` when the level was matched."""
        return self.kernel_size * 2**self.level


@dataclass(frozen=True)
class Skipped:
    """A convolution of at least the least kernel that was left alone, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class KernelReport:
    """What `convert_large_kernels` did.

    Attributes:
        replaced: the convolutions replaced, in the network's order.
        skipped: the large convolutions left alone.
        parameters: of the whole network, before and after.
        macs: of the whole network for one input, before and after; None if no input size is known.
        input_size: (C, H, W) that the MACs are for.
    """

    replaced: tuple[Replacement, ...]
    skipped: tuple[Skipped, ...]
    parameters: tuple[int, int]
    macs: Optional[tuple[int, int]]
    input_size: Optional[tuple[int, int, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} convolutions replaced, {len(self.skipped)} left alone"]
        lines.append("parameters {:,} -> {:,}".format(*self.parameters))
        if self.macs is not None and self.input_size is not None:
            size = "x".join(str(n) for n in self.input_size)
            lines.append("MACs at {} {:,} -> {:,}".format(size, *self.macs))
        for r in self.replaced:
            error = "" if r.error is None else f", error {r.error:.3f}"
            lines.append(
                f"  {r.name}: {r.kernel[0]}x{r.kernel[1]} stride {r.stride} -> k {r.kernel_size} level {r.level} "
                f"(sees {r.receptive_field}), parameters {r.parameters[0]:,} -> {r.parameters[1]:,}{error}"
            )
        lines += [f"  {s.name}: left alone, {s.reason}" for s in self.skipped]
        return "\n".join(lines)


class ConvertedNetwork(NamedTuple):
    """The converted network and the report of what was done: ``model, report = convert_large_kernels(net)``."""

    model: nn.Module
    report: KernelReport
