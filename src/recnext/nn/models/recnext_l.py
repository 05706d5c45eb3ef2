"""RecNeXt L (T, S, B): attention on a quarter of the channels, with a stride-8 stem.

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

from timm.layers import calculate_drop_path_rates
from timm.models import generate_default_cfgs, register_model
from torch import nn

from recnext.nn.mixers.linear_attention import LinearAttention
from recnext.nn.mixers.recattn import RecAttn2d

from .base import RecNext, cfg, create, published_cfgs
from .blocks import Act, Stage, Stem, stage_values
from .partial_blocks import PartialBlock, PartialChannels, PartialDownsample, SharedStage

SPLIT = 4  # attention works on 1/SPLIT of the channels


def partial_mixer(
    width: int, stage: int, block: int, *, kernel: str, share_channel: bool, **dd: Any
) -> Optional[PartialChannels]:
    """The token mixer of a block: recursive attention early, half-width attention late, none where it shares."""
    part = width // SPLIT
    if share_channel and stage == 3 and block % (SPLIT + 1) == SPLIT:
        return None
    options: dict[str, Any] = {"kernel": kernel, "bias": True, "kv_first": stage == 0, **dd}
    if stage >= (2 if share_channel else 3):
        return PartialChannels(LinearAttention(part, half_width=True, **options), part)
    return PartialChannels(RecAttn2d(part, **options), part)


class RecNextL(RecNext):
    """The L series. Its stem has stride 8, so the maps are 1/8, 1/16, 1/32 and 1/64 of the image.

    Args:
        in_chans: image channels.
        num_classes: 0 for pooled features.
        global_pool: "avg", or "" for the map.
        embed_dim: channels of each stage.
        depths: blocks of each stage.
        mlp_ratio: of the channel mixers, one or one per stage.
        attention_kernel: feature map of the linear attention (see LinearAttention).
        share_channel: the shared-channel kind: half-width attention in stage 2 too, and in the last stage every
            fifth block adds what the four before it attended to, instead of attending.
        act_layer: activation of stem and channel mixers.
        distillation: while training, return (logits, distillation logits).
        drop_rate: dropout before the classifier.
        drop_path_rate: rises linearly over the blocks to this value.
        device: where the weights live.
        dtype: of the weights.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        embed_dim: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (0, 2, 8, 10),
        mlp_ratio: Union[float, Sequence[float]] = (2.0, 2.0, 2.0, 1.5),
        attention_kernel: str = "elu",
        share_channel: bool = False,
        act_layer: Act = nn.GELU,
        distillation: Optional[bool] = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        dd = {"device": device, "dtype": dtype}
        ratios = stage_values(mlp_ratio, len(embed_dim))
        rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=False)  # a downsample: its block 0's
        make_mixer = partial(
            partial_mixer, kernel=attention_kernel, share_channel=share_channel, device=device, dtype=dtype
        )
        stages: list[nn.Module] = []
        for i, (width, depth) in enumerate(zip(embed_dim, depths, strict=True)):
            stage_rates, rates = rates[:depth], rates[depth:]
            rest = (ratios[i], act_layer)
            downsample = PartialDownsample(embed_dim[i - 1], width, *rest, stage_rates[0], **dd) if i > 0 else None
            blocks = [
                PartialBlock(width, make_mixer(width, i, j), *rest, rate, **dd) for j, rate in enumerate(stage_rates)
            ]
            stages.append((SharedStage if share_channel and i == 3 else Stage)(downsample, blocks))
        width = embed_dim[0]
        super().__init__(
            Stem(in_chans, (width // 4, width // 2, width), act_layer, last_act=depths[0] == 0, bias=True, **dd),
            stages,
            embed_dim=embed_dim,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            distillation=distillation,
            drop_rate=drop_rate,
            **dd,
        )


_T: dict[str, Any] = {"embed_dim": (64, 128, 256, 512), "depths": (0, 2, 8, 10)}
_S: dict[str, Any] = {"embed_dim": (128, 256, 384, 512), "depths": (0, 2, 8, 10)}
_B: dict[str, Any] = {"embed_dim": (128, 256, 384, 512), "depths": (2, 8, 8, 12)}

CONFIGS: dict[str, dict[str, Any]] = {
    "recnext_t": _T,
    "recnext_s": _S,
    "recnext_b": _B,
    "recnext_t_share_channel": {**_T, "share_channel": True},
    "recnext_s_share_channel": {**_S, "share_channel": True},
    "recnext_b_share_channel": {**_B, "share_channel": True},
    "test_recnext_l": {"embed_dim": (16, 32, 48, 64), "depths": (0, 1, 1, 5), "share_channel": True},
}

default_cfgs = generate_default_cfgs(
    {
        **published_cfgs([name for name in CONFIGS if name.startswith("recnext")], pool_size=(4, 4)),
        "test_recnext_l.untrained": cfg(input_size=(3, 64, 64), pool_size=(1, 1)),
    }
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> RecNext:
    return create(cast(Callable[..., RecNext], RecNextL), variant, pretrained, config=CONFIGS[variant], **kwargs)


@register_model
def recnext_t(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-T: 12.1 M parameters fused, 0.3 GMACs at 224."""
    return _create("recnext_t", pretrained, **kwargs)


@register_model
def recnext_s(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-S: 15.8 M parameters fused, 0.7 GMACs at 224."""
    return _create("recnext_s", pretrained, **kwargs)


@register_model
def recnext_b(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-B: 19.3 M parameters fused, 1.1 GMACs at 224."""
    return _create("recnext_b", pretrained, **kwargs)


@register_model
def recnext_t_share_channel(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-T with shared channels: 12.0 M parameters fused, 0.3 GMACs at 224."""
    return _create("recnext_t_share_channel", pretrained, **kwargs)


@register_model
def recnext_s_share_channel(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-S with shared channels: 15.8 M parameters fused, 0.7 GMACs at 224."""
    return _create("recnext_s_share_channel", pretrained, **kwargs)


@register_model
def recnext_b_share_channel(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-B with shared channels: 19.2 M parameters fused, 1.1 GMACs at 224."""
    return _create("recnext_b_share_channel", pretrained, **kwargs)


@register_model
def test_recnext_l(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """A tiny shared-channel L network for tests."""
    return _create("test_recnext_l", pretrained, **kwargs)
