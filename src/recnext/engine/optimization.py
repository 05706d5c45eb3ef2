"""Optimizer and gradient clipping from the settings, both timm's; clipping of shards as well."""

from collections.abc import Iterable, Sequence
from typing import Optional

import torch
from timm.optim import create_optimizer_v2
from timm.utils.agc import adaptive_clip_grad, unitwise_norm
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
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

    Collective where the parameters are cut.

    Source: adaptive clipping is that of Brock et al. (arXiv 2102.06171), here on all parameters, the last ones too.
    """
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    if settings.clip == "norm":
        torch.nn.utils.clip_grad_norm_(learning, settings.clip_value)
    elif settings.clip == "agc" and any(isinstance(parameter, DTensor) for parameter in learning):
        _clip_shards(learning, settings.clip_value)
    elif settings.clip == "agc":
        adaptive_clip_grad(learning, clip_factor=settings.clip_value)


@torch.no_grad()
def _clip_shards(parameters: Sequence[Tensor], factor: float, *, eps: float = 1e-3) -> None:
    """timm's `adaptive_clip_grad` of parameters cut along their first dimension.

    A unit's weights, a row, are then in one process, which clips it alone; vectors are one unit each, and the squares
    of all of them are added up over the processes at once.
    """
    shards = [(_local(parameter), _local(parameter.grad)) for parameter in parameters]
    norms = [(unitwise_norm(weight), unitwise_norm(gradient)) for weight, gradient in shards]
    vectors = [index for index, parameter in enumerate(parameters) if parameter.ndim <= 1]
    if vectors:
        squares = torch.stack([torch.stack(norms[index]) for index in vectors]).square()
        distributed.all_reduce(squares)
        for index, total in zip(vectors, squares.sqrt(), strict=True):
            norms[index] = (total[0], total[1])
    for (_, gradient), (weight_norm, gradient_norm) in zip(shards, norms, strict=True):
        limit = weight_norm.clamp(min=eps) * factor
        clipped = gradient * (limit / gradient_norm.clamp(min=1e-6))
        gradient.copy_(torch.where(gradient_norm < limit, gradient, clipped))


def _local(tensor: Optional[Tensor]) -> Tensor:
    assert isinstance(tensor, DTensor)
    return tensor.to_local()
