"""Parts that the families share: stem, channel mixer, stage, classifier."""

from collections.abc import Sequence
from typing import Any, Optional, cast

import torch
from timm.models import checkpoint_seq
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.mixers.conv_norm import ConvNorm, NormLinear

Act = type[nn.Module]


def channel_mixer(
    channels: int, ratio: float, act_layer: Act, *, bias: bool = False, device: Any = None, dtype: Any = None
) -> nn.Sequential:
    """1x1 ConvNorm to int(channels · ratio), activation, 1x1 ConvNorm back."""
    hidden = int(channels * ratio)
    options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
    return nn.Sequential(ConvNorm(channels, hidden, **options), act_layer(), ConvNorm(hidden, channels, **options))


class Stem(nn.Module):
    """3x3 stride-2 ConvNorms with activations between them; halves the map once per convolution.

    Args:
        in_chans: image channels.
        widths: output channels of each convolution.
        act_layer: activation between the convolutions.
        last_act: an activation after the last convolution too.
        bias: gives the convolutions a bias.
        device: where the weights live.
        dtype: of the weights.
    """

    def __init__(
        self,
        in_chans: int,
        widths: Sequence[int],
        act_layer: Act,
        *,
        last_act: bool = False,
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"stride": 2, "padding": 1, "bias": bias, "device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        for width_in, width in zip((in_chans, *widths), widths, strict=False):
            layers += [ConvNorm(width_in, width, 3, **options), act_layer()]
        if not last_act:
            layers.pop()
        self.stem = nn.Sequential(*layers)
        self.stride = 2 ** len(widths)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x)


class Stage(nn.Module):
    """An optional downsample, then blocks in sequence."""

    def __init__(self, downsample: Optional[nn.Module], blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = nn.Identity() if downsample is None else downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)


class Classifier(nn.Module):
    """The two heads: `head` learns the labels, `head_dist` the teacher.

    Their mean is the answer; in training with `distilled_training` set, the pair is.

    Args:
        in_features: width of the pooled features.
        num_classes: 0 passes the features on.
        distilled_training: return (logits, distillation logits) while training.
        device: where the weights live.
        dtype: of the weights.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        distilled_training: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.num_classes = num_classes
        self.distilled_training = distilled_training
        self.head = NormLinear(in_features, num_classes, **dd) if num_classes > 0 else nn.Identity()
        self.head_dist = NormLinear(in_features, num_classes, **dd) if num_classes > 0 else nn.Identity()

    def forward(self, x: Tensor):  # type: ignore[no-untyped-def]
        logits, dist_logits = self.head(x), self.head_dist(x)
        if not torch.jit.is_scripting() and self.training and self.distilled_training:
            return logits, dist_logits
        return (logits + dist_logits) / 2

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """One Linear equal to the mean of both heads in eval mode; Identity without classes."""
        if self.num_classes == 0:
            return nn.Identity()
        head = cast(NormLinear, self.head).fuse()
        head_dist = cast(NormLinear, self.head_dist).fuse()
        head.weight.add_(head_dist.weight).div_(2)
        head.bias.add_(head_dist.bias).div_(2)
        return head


def stage_values(value: float | Sequence[float], stages: int) -> tuple[float, ...]:
    """A ratio given once, or per stage, as one per stage.

    Raises:
        RecNextError: a sequence of another length.
    """
    if isinstance(value, (int, float)):
        return (float(value),) * stages
    if len(value) != stages:
        raise RecNextError(f"{tuple(value)} has {len(value)} values; give one, or one for each of {stages} stages")
    return tuple(value)
