"""Random operands of the recursion, shared by the tests of its fast forms."""

import torch
from torch import Tensor


def operands(
    shape: tuple[int, int, int, int],
    kernel: int,
    level: int,
    bias: bool = False,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None, list[Tensor] | None]:
    """x in channels_last, then the weights, uniform in ±scale/kernel as PyTorch draws depthwise ones."""
    generator = torch.Generator().manual_seed(seed)
    channels = shape[1]

    def draw(*size: int, bound: float) -> Tensor:
        values = (torch.rand(size, generator=generator, dtype=torch.float64) * 2 - 1) * bound
        return values.to(device=device, dtype=dtype)

    def weight() -> Tensor:
        return draw(channels, 1, kernel, kernel, bound=scale / kernel)

    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    down, convs = weight(), [weight() for _ in range(level + 1)]
    if not bias:
        return x, down, convs, None, None
    return x, down, convs, draw(channels, bound=0.5), [draw(channels, bound=0.5) for _ in convs]


def flat(args: tuple) -> list[Tensor]:
    """Every tensor of `operands`, in order."""
    x, down, convs, down_bias, conv_biases = args
    return [x, down, *convs, *([] if down_bias is None else [down_bias]), *(conv_biases or [])]


def detached(args: tuple) -> tuple:
    """Copies that ask for gradients."""

    def leaf(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.detach().clone(memory_format=torch.preserve_format).requires_grad_()

    x, down, convs, down_bias, conv_biases = args
    return (
        leaf(x),
        leaf(down),
        [leaf(t) for t in convs],
        leaf(down_bias),
        None if conv_biases is None else [leaf(t) for t in conv_biases],
    )


def error(value: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference, in float64 on the CPU; NaN stays NaN."""
    reference = reference.detach().double().cpu()
    difference = value.detach().double().cpu() - reference
    return float(difference.norm() / reference.norm().clamp_min(1e-30))
