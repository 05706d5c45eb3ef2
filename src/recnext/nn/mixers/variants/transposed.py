"""RecConv that goes back up by a transposed convolution, which all levels share."""

from typing import Any, List, Optional  # noqa: UP035 (TorchScript reads List)

import torch
from torch import Tensor, nn

from ..recursion import PerLevel, Recursion, check_choice, check_map, depthwise


class TransposedRecConv2d(Recursion):
    """Recursive depthwise convolution with a learned way up (arXiv 2412.19628, ablations).

    With f_0 = x and f_i = down(f_{i-1}), level i is convolved, doubled in size by `up`, passed through the
    activation and aggregated with f_{i-1}; the convolution of level 0 gives the result.

    Parameters: ((level + 2) k² + (k + 1)²) c without biases; children in order: `down`, `convs`
    (coarsest first), `up`.

    Args:
        in_channels: channels c, of the input and the output.
        kernel_size: odd kernel k; `up` has k + 1, stride 2.
        bias: whether the convolutions have biases.
        level: number of halvings; 0 leaves one k x k convolution (and `down` and `up` unused).
        aggregation: "add", or "hadamard" for the product, at every level and with the input.
        activation: module class applied after each `up`, such as nn.GELU; None for none.

    Raises:
        RecNextError: the kernel is even, the level negative or the aggregation unknown; on call, if the
            height or width of the (N, C, H, W) input is not a multiple of 2**level.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
        level: int = 2,
        *,
        aggregation: str = "add",
        activation: Optional[type[nn.Module]] = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(kernel_size=kernel_size, level=level)
        check_choice("TransposedRecConv2d", option="aggregation", value=aggregation, choices=("add", "hadamard"))
        self.hadamard = aggregation == "hadamard"
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.down = depthwise(in_channels, kernel_size, stride=2, **options)
        self.convs = PerLevel(depthwise(in_channels, kernel_size, **options) for _ in range(level + 1))
        self.up = nn.ConvTranspose2d(
            in_channels, in_channels, kernel_size + 1, 2, kernel_size // 2, groups=in_channels, **options
        )
        self.activation = nn.Identity() if activation is None else activation()

    def rise(self, y: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        y, above = self.activation(self.up(y)), waiting.pop()
        return above * y if self.hadamard else above + y

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        if not torch.jit.is_scripting():
            check_map("TransposedRecConv2d", x, level=self.level, multiple=True)
        return self.recurse(x)
