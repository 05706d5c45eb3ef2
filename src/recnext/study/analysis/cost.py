"""Parameters, and the multiply-accumulates of a forward pass as torch counts them."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of convolutions and matrix products; resizing, norms and activations are not counted.

    Args:
        model: any module of one tensor argument; on the meta device nothing is computed.
        size: of that argument, (N, C, H, W).
    """
    training = model.training
    parameter = next(model.parameters())
    x = torch.zeros(size, device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(x)
    finally:
        model.train(training)
    return counter.get_total_flops() // 2


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
