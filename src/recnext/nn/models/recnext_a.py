"""RecNeXt A: recursive linear attention as token mixer, published with the code of RecConv.

@article{zhao2024recconv,
  title={RecConv: Efficient Recursive Convolutions for Multi-Frequency Representations},
  author={Zhao, Mingshu and Luo, Yi and Ouyang, Yong},
  journal={arXiv preprint arXiv:2412.19628},
  year={2024}
}
"""

from collections.abc import Callable, Sequence
from typing import Any, Optional, Union, cast

from timm.models import generate_default_cfgs, register_model
from torch import nn

from recnext.nn.mixers.recattn import RecAttn2d

from .base import RecNext, cfg, create, published_cfgs
from .blocks import Act, Stem
from .recnext_m import CONFIGS as M_CONFIGS
from .recnext_m import uniform_stages


class RecNextA(RecNext):
    """The A series: 2, 4, 8 and 16 heads, and the M series' stem and downsamples.

    Args:
        in_chans: image channels.
        num_classes: 0 for pooled features.
        global_pool: "avg", or "" for the map.
        embed_dim: channels of each stage.
        depths: blocks of each stage.
        mlp_ratio: of the channel mixers, one or one per stage.
        attention_kernel: feature map of the linear attention (see LinearAttention).
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
        attention_kernel: str = "elu",
        act_layer: Act = nn.GELU,
        distillation: Optional[bool] = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        dd = {"device": device, "dtype": dtype}

        def make_mixer(channels: int, stage: int) -> nn.Module:
            return RecAttn2d(channels, 2 ** (stage + 1), kernel=attention_kernel, kv_first=stage < 3, **dd)

        stages = uniform_stages(embed_dim, depths, mlp_ratio, act_layer, drop_path_rate, make_mixer, norm=False, **dd)
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
    "recnext_a0": M_CONFIGS["recnext_m0"],
    "recnext_a1": M_CONFIGS["recnext_m1"],
    "recnext_a2": M_CONFIGS["recnext_m2"],
    "recnext_a3": {**M_CONFIGS["recnext_m3"], "mlp_ratio": 1.875},
    "recnext_a4": {**M_CONFIGS["recnext_m4"], "mlp_ratio": 1.875},
    "recnext_a5": {**M_CONFIGS["recnext_m5"], "mlp_ratio": 1.875},
    "test_recnext_a": {"embed_dim": (16, 32, 64, 128), "depths": (1, 1, 2, 1)},
}

default_cfgs = generate_default_cfgs(
    {
        **published_cfgs([name for name in CONFIGS if name.startswith("recnext")]),
        "test_recnext_a.untrained": cfg(input_size=(3, 64, 64), pool_size=(2, 2)),
    }
)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> RecNext:
    return create(cast(Callable[..., RecNext], RecNextA), variant, pretrained, config=CONFIGS[variant], **kwargs)


@register_model
def recnext_a0(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-A0: 2.8 M parameters fused, 0.4 GMACs at 224."""
    return _create("recnext_a0", pretrained, **kwargs)


@register_model
def recnext_a1(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-A1: 5.9 M parameters fused, 0.9 GMACs at 224."""
    return _create("recnext_a1", pretrained, **kwargs)


@register_model
def recnext_a2(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-A2: 7.9 M parameters fused, 1.2 GMACs at 224."""
    return _create("recnext_a2", pretrained, **kwargs)


@register_model
def recnext_a3(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-A3: 9.0 M parameters fused, 1.4 GMACs at 224."""
    return _create("recnext_a3", pretrained, **kwargs)


@register_model
def recnext_a4(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-A4: 15.7 M parameters fused, 2.4 GMACs at 224."""
    return _create("recnext_a4", pretrained, **kwargs)


@register_model
def recnext_a5(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """RecNeXt-A5: 25.7 M parameters fused, 4.7 GMACs at 224."""
    return _create("recnext_a5", pretrained, **kwargs)


@register_model
def test_recnext_a(pretrained: bool = False, **kwargs: Any) -> RecNext:
    """A tiny A network for tests."""
    return _create("test_recnext_a", pretrained, **kwargs)
