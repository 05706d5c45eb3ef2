"""Multiplications and additions of a forward pass, counted by torch without computing it."""

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of convolutions and matrix products; resizing, norms and activations are not counted.

    Args:
        model: any module of one tensor argument.
        size: of that argument, (N, C, H, W).
    """
    training = model.training
    parameter = next(model.parameters())
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        x = torch.empty(size, device=parameter.device, dtype=parameter.dtype)
        with FlopCounterMode(display=False) as counter:
            model.eval()(x)
    model.train(training)
    return counter.get_total_flops() // 2


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
