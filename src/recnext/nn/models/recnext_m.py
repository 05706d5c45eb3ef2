"""RecNeXt M: RecConv as token mixer, for the widest hardware support.

@article{zhao2024recconv,
  title={RecConv: Efficient Recursive Convolutions for Multi-Frequency Representations},
  author={Zhao, Mingshu and Luo, Yi and Ouyang, Yong},
  journal={arXiv preprint arXiv:2412.19628},
  year={2024}
}
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Optional, Union, cast

import torch
from timm.layers import DropPath
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from recnext.nn.mixers.conv_norm import ConvNorm, norm_scale_shift, scale_inputs, scale_outputs, shift_inputs, with_bias
from recnext.nn.mixers.recconv import RecConv2d
from recnext.nn.mixers.registry import TokenMixer, create_token_mixer

from .base import RecNext, cfg, create, published_cfgs
from .blocks import Act, Stage, Stem, channel_mixer, stage_values


class RecConvBlock(nn.Module):
    """x + drop_path(channel_mixer(norm(token_mixer(x)))); without a norm where the mixer has its own."""

    def __init__(
        self,
        channels: int,
        token_mixer: nn.Module,
        mlp_ratio: float,
        act_layer: Act,
        drop_path: float,
        *,
        norm: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.token_mixer = token_mixer
        self.norm: nn.Module = nn.BatchNorm2d(channels, **dd) if norm else nn.Identity()
        self.channel_mixer = channel_mixer(channels, mlp_ratio, act_layer, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.channel_mixer(self.norm(self.token_mixer(x))))

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Folds the norm into its neighbours, in place: no parameter is added.

        RecConv's last convolution takes the scale, so that its output is normalised (which float16 needs), and
        the 1x1 convolution that follows takes the shift; after another mixer the latter takes both.
        """
        if isinstance(self.norm, nn.Identity):
            return self
        scale, shift = norm_scale_shift(self.norm)
        first = self.channel_mixer[0]
        first = first.fuse() if isinstance(first, ConvNorm) else with_bias(cast(nn.Conv2d, first))
        shift_inputs(first, shift)
        last = self.token_mixer.convs[-1] if isinstance(self.token_mixer, RecConv2d) else None
        if isinstance(last, nn.Conv2d) and last.bias is None:
            last.weight.mul_(scale[:, None, None, None].to(last.weight.dtype))
        else:
            scale_inputs(first, scale)
        self.channel_mixer[0] = first
        self.norm = nn.Identity()
        return self


class RecConvDownsample(nn.Module):
    """Halves the map and doubles the channels: y = norm(conv 7x7 stride 2), y + channel_mixer(y)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mlp_ratio: float,
        act_layer: Act,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.token_mixer = nn.Conv2d(in_channels, out_channels, 7, stride=2, padding=3, groups=in_channels, **dd)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, **dd)
        self.channel_mixer = channel_mixer(out_channels, mlp_ratio, act_layer, **dd)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.token_mixer(x))
        return x + self.channel_mixer(x)

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Folds the norm into the convolution, in place."""
        if not isinstance(self.norm, nn.Identity):
            scale, shift = norm_scale_shift(self.norm)
            scale_outputs(self.token_mixer, scale, shift)
            self.norm = nn.Identity()
        return self


def uniform_stages(
    embed_dim: Sequence[int],
    depths: Sequence[int],
    mlp_ratio: Union[float, Sequence[float]],
    act_layer: Act,
    drop_path: float,
    make_mixer: Callable[[int, int], nn.Module],
    *,
    norm: bool = True,
    **dd: Any,
) -> list[Stage]:
    """The stages of the M and A series; `make_mixer` gets a stage's channels and index.

    Every block has the same drop path rate, as published, where timm's networks let it rise with the depth;
    downsamples have none.
    """
    stages = []
    ratios = stage_values(mlp_ratio, len(embed_dim))
    for i, (width, depth, ratio) in enumerate(zip(embed_dim, depths, ratios, strict=True)):
        downsample = RecConvDownsample(embed_dim[i - 1], width, ratio, act_layer, **dd) if i > 0 else None
        blocks = [
            RecConvBlock(width, make_mixer(width, i), ratio, act_layer, drop_path, norm=norm, **dd)
            for _ in range(depth)
        ]
        stages.append(Stage(downsample, blocks))
    return stages


class RecNextM(RecNext):
    """The M series.

    Args:
        in_chans: image channels.
        num_classes: 0 for pooled features.
        global_pool: "avg", or "" for the map.
        embed_dim: channels of each stage, each twice the one before or any other increase by a whole factor.
        depths: blocks of each stage.
        mlp_ratio: of the channel mixers, one or one per stage.
        token_mixer: name of a RecConv variant, or a callable (channels, stage) that makes the mixer.
        recompute: RecConv made by name saves only its input for the backward pass; other mixers do not.
        act_layer: activation of stem and channel mixers.
        distillation: while training, return (logits, distillation logits).
        drop_rate: dropout before the classifier.
        drop_path_rate: of every block.
        device: where the weights live.
        dtype: of the weights.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        embed_dim: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] = (3, 3, 15, 2),
        mlp_ratio: Union[float, Sequence[float]] = 2.0,
        token_mixer: TokenMixer = "rec_5x5_bilinear",
        recompute: bool = False,
        act_layer: Act = nn.GELU,
        distillation: Optional[bool] = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        dd = {"device": device, "dtype": dtype}
        make_mixer = partial(create_token_mixer, token_mixer, recompute=recompute, **dd)
        stages = uniform_stages(embed_dim, depths, mlp_ratio, act_layer, drop_path_rate, make_mixer, **dd)
        super().__init__(
            Stem(in_chans, (embed_dim[0] // 2, embed_dim[0]), act_layer, **dd),
            stages,
            embed_dim=embed_dim,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            distillation=distillation,
            drop_rate=drop_rate,
            **dd,
        )


CONFIGS: dict[str, dict[str, Any]] = {
    "recnext_m0": {"embed_dim": (40, 80, 160, 320), "depths": (2, 2, 9, 1)},
    "recnext_m1": {"embed_dim": (48, 96, 192, 384), "depths": (3, 3, 15, 2)},
    "recnext_m2": {"embed_dim": (56, 112, 224, 448), "depths": (3, 3, 15, 2)},
    "recnext_m3": {"embed_dim": (64, 128, 256, 512), "depths": (3, 3, 13, 2)},
    "recnext_m4": {"embed_dim": (64, 128, 256, 512), "depths": (5, 5, 25, 4)},
    "recnext_m5": {"embed_dim": (80, 160, 320, 640), "depths": (7, 7, 35, 2)},
    "test_recnext_m": {"embed_dim": (16, 32, 64, 128), "depths": (1, 1, 2, 1)},
}

default_cfgs = generate_default_cfgs(
    {
        **published_cfgs([name for name in CONFIGS if name.startswith("recnext")]),
        "test_recnext_m.untrained": cfg(input_size=(3, 64, 64), pool_size=(2, 2)),
    }
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> RecNext:
    return create(cast(Callable[..., RecNext], RecNextM), variant, pretrained, config=CONFIGS[variant], **kwargs)


@register_model
def recnext_m0(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-M0: 2.5 M parameters fused, 0.4 GMACs at 224."""
    return _create("recnext_m0", pretrained, **kwargs)


@register_model
def recnext_m1(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-M1: 5.2 M parameters fused, 0.9 GMACs at 224."""
    return _create("recnext_m1", pretrained, **kwargs)


@register_model
def recnext_m2(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-M2: 6.8 M parameters fused, 1.2 GMACs at 224."""
    return _create("recnext_m2", pretrained, **kwargs)


@register_model
def recnext_m3(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-M3: 8.2 M parameters fused, 1.4 GMACs at 224."""
    return _create("recnext_m3", pretrained, **kwargs)


@register_model
def recnext_m4(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-M4: 14.1 M parameters fused, 2.4 GMACs at 224."""
    return _create("recnext_m4", pretrained, **kwargs)


@register_model
def recnext_m5(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-M5: 22.9 M parameters fused, 4.7 GMACs at 224."""
    return _create("recnext_m5", pretrained, **kwargs)


@register_model
def test_recnext_m(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """A tiny M network for tests."""
    return _create("test_recnext_m", pretrained, **kwargs)
