"""Optimizer and gradient clipping from the settings, both timm's."""

from collections.abc import Iterable

import torch
from timm.optim import create_optimizer_v2
from timm.utils.agc import adaptive_clip_grad
from torch import Tensor, nn
from torch.optim import Optimizer

from .settings import LoopSettings


def make_optimizer(model: nn.Module, settings: LoopSettings, *, lr: float) -> Optimizer:
    """AdamW; its groups part what decays from what does not, and the layers where they learn at different rates.

    Args:
        model: on its device, all of it trainable.
        settings: of the run.
        lr: at the peak.
    """
    return create_optimizer_v2(
        model,
        opt="adamw",
        lr=lr,
        weight_decay=settings.weight_decay,
        filter_bias_and_bn=not settings.decay_all,
        layer_decay=settings.layer_decay,
        betas=(0.9, 0.999),
        eps=1e-8,
    )


def clip_gradients(parameters: Iterable[Tensor], settings: LoopSettings) -> None:
    """Clips in place, as `settings.clip` says; the gradients are unscaled.

    Source: adaptive clipping is that of Brock et al. (arXiv 2102.06171), here on all parameters, the last ones too.
    """
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    if settings.clip == "norm":
        torch.nn.utils.clip_grad_norm_(learning, settings.clip_value)
    elif settings.clip == "agc":
        adaptive_clip_grad(learning, clip_factor=settings.clip_value)
