"""MLLA: Mamba-like linear attention (arXiv 2405.16605) with RecConv or recursive attention as its mixer.

The networks that show RecConv in another design (arXiv 2412.19628): a convolutional patch embedding of stride 4,
then four layers of gated blocks; each layer but the last ends with a block that halves the map and doubles the
channels. No weights were published.

    @article{han2024mlla,
      title={Demystify Mamba in Vision: A Linear Attention Perspective},
      author={Han, Dongchen and Wang, Ziyi and Xia, Zhuofan and Han, Yizeng and Pu, Yifan and Ge, Chunjiang and
              Song, Jun and Song, Shiji and Zheng, Bo and Huang, Gao},
      journal={arXiv preprint arXiv:2405.16605},
      year={2024}
    }
"""

from typing import Any, Optional, Union, cast

import torch
from timm.layers import get_device_dtype, to_2tuple, trunc_normal_
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from torch import Tensor, nn

from recnext.errors import RecNextError

from .base import Backbone, cfg, check_stride, checked_pool, record_arguments, take_indices
from .mlla_blocks import AGGREGATIONS, MllaBlock, PatchEmbed, halved

__all__ = ["Mlla"]


class MllaLayer(nn.Module):
    """A layer: `blocks` at one resolution, then `downsample`, a block of stride 2 (Identity in the last layer)."""

    def __init__(
        self, dim: int, *, level: int, resolution: tuple[int, int], drop_path: list[float], last: bool, **block: Any
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.blocks = nn.Sequential(
            *[MllaBlock(dim, level=level, resolution=resolution, drop_path=rate, **block) for rate in drop_path]
        )
        self.downsample: nn.Module = nn.Identity()
        if not last:
            self.downsample = MllaBlock(
                2 * dim,
                level=level - 1,
                resolution=halved(resolution),
                drop_path=drop_path[-1],
                downsample=True,
                **block,
            )

    def features(self, x: Tensor) -> Tensor:
        """The blocks alone, (N, C, H, W) to (N, C, H, W): what feature extraction returns."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.features(x))


def check_size(x: Tensor, multiple: int) -> None:
    """Refuses maps whose height or width is not a multiple of `multiple`."""
    height, width = x.shape[-2:]
    if height % multiple or width % multiple:
        sizes = [max(multiple, round(size / multiple) * multiple) for size in (height, width)]
        raise RecNextError(
            f"recconv_transposed: {height}x{width} pixels, but height and width must be multiples of {multiple}; "
            f"resize to {sizes[0]}x{sizes[1]}, or take recconv_nearest"
        )


# One node for torch.fx, which cannot follow a condition on sizes.
torch.fx.wrap("check_size")


class Mlla(Backbone):
    """MLLA with a recursive token mixer.

    Args:
        aggregation: the mixer, "recconv_nearest", "recconv_transposed", "recattn" or "recattn_rope".
        embed_dim: channels C of the first layer; layer i has C 2^i.
        depths: blocks a layer.
        num_heads: attention heads a layer.
        in_chans: channels of the input.
        num_classes: classes; 0 gives pooled, normalised features.
        global_pool: "avg", or "" to normalise and classify every position.
        img_size: pixels for which rotary angles are stored. Other sizes are taken too: smaller maps use a
            corner of the stored angles, larger ones compute theirs.
        drop_rate: dropout before the head.
        drop_path_rate: stochastic depth of the last block, linear from 0 in the first.
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, in_chans, H, W) to (N, num_classes), any H and W; "recconv_transposed" takes multiples of 64.

    Raises:
        RecNextError: an unknown aggregation or pooling; in forward, a size that the mixer cannot take.
    """

    def __init__(
        self,
        aggregation: str = "recconv_nearest",
        *,
        embed_dim: int = 32,
        depths: tuple[int, ...] = (2, 2, 4, 2),
        num_heads: tuple[int, ...] = (2, 4, 8, 16),
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        img_size: Union[int, tuple[int, int]] = 256,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if aggregation not in AGGREGATIONS:
            raise RecNextError(f"Mlla: aggregation={aggregation!r} must be one of {', '.join(AGGREGATIONS)}")
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        count = len(depths)
        self.size_multiple = 2 ** (count + 2) if aggregation == "recconv_transposed" else 1
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dim * 2 ** (count - 1)
        self.feature_info: list[dict[str, Any]] = []

        self.patch_embed = PatchEmbed(in_chans, embed_dim, **dd)
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").split(list(depths))
        resolution = halved(halved(to_2tuple(img_size)))
        layers: list[nn.Module] = []
        for i in range(count):
            layers.append(
                MllaLayer(
                    embed_dim * 2**i,
                    level=count - i,
                    resolution=resolution,
                    drop_path=rates[i].tolist(),
                    last=i == count - 1,
                    aggregation=aggregation,
                    num_heads=num_heads[i],
                    **dd,
                )
            )
            self.feature_info.append(
                {"num_chs": embed_dim * 2**i, "reduction": 2 ** (i + 2), "module": f"layers.{i}.blocks"}
            )
            resolution = halved(resolution)
        self.layers = nn.Sequential(*layers)

        self.norm: nn.Module = nn.LayerNorm(self.num_features, **dd)
        self.head_drop = nn.Dropout(drop_rate)
        self.head: nn.Module = nn.Identity()
        self.apply(init_weights)
        self.reset_classifier(num_classes, global_pool)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns for layer-wise learning rates: by layer when coarse, else by block."""
        blocks: Any = r"^layers\.(\d+)"
        if not coarse:
            blocks = [(r"^layers\.(\d+)\.blocks\.(\d+)", None), (r"^layers\.(\d+)\.downsample", (99,))]
        return {"stem": r"^patch_embed", "blocks": [*blocks, (r"^norm|^head", (99999,))] if not coarse else blocks}

    def reset_classifier(
        self, num_classes: int, global_pool: Optional[str] = None, device: Any = None, dtype: Any = None
    ) -> None:
        """New classifier of `num_classes` (0: none); `global_pool` "avg" or "" changes the pooling."""
        dd = get_device_dtype(self, device=device, dtype=dtype)
        if global_pool is not None:
            self.global_pool = checked_pool(global_pool)
        self.num_classes = num_classes
        self.head = nn.Identity()
        if num_classes > 0:
            self.head = nn.Linear(self.num_features, num_classes, **dd)
            init_weights(self.head)
        self.head.train(self.training)
        record_arguments(self, num_classes=num_classes, global_pool=self.global_pool)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Optional[Union[int, list[int]]] = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Union[list[Tensor], tuple[Tensor, list[Tensor]]]:
        """Maps of chosen layers, before their downsampling.

        Args:
            x: (N, in_chans, H, W).
            indices: the last so many layers if an int, those named if a list, all if None.
            norm: apply the final norm to the last layer's map.
            stop_early: do not run past the last layer wanted.
            output_fmt: "NCHW".
            intermediates_only: return the list alone.

        Returns:
            The final map (N, C, H / 32, W / 32) and the list of maps (N, C_i, H / 2^(i + 2), W / 2^(i + 2)).
        """
        if output_fmt != "NCHW":
            raise RecNextError(f"Mlla: output_fmt={output_fmt!r} must be 'NCHW'")
        take, last = take_indices(len(self.layers), indices)
        check_size(x, self.size_multiple)
        x = self.patch_embed(x)
        maps = []
        layers: list[Any] = list(self.layers)
        for i, layer in enumerate(layers[: last + 1] if stop_early else layers):
            x = layer.features(x)
            if i in take:
                final = norm and i == len(layers) - 1
                maps.append(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if final else x)
            if not stop_early or i < last:
                x = layer.downsample(x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: Union[int, list[int]] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops the layers that `forward_intermediates` with these indices does not need."""
        take, last = take_indices(len(self.layers), indices)
        cut = last < len(self.layers) - 1
        self.layers = self.layers[: last + 1]
        if cut:
            cast(MllaLayer, self.layers[-1]).downsample = nn.Identity()
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_norm or cut:
            self.norm = nn.Identity()
        if prune_head or cut:
            self.reset_classifier(0, "")
        return take

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) to (N, C, H / 32, W / 32), before pooling and norm."""
        check_size(x, self.size_multiple)
        return self.layers(self.patch_embed(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooling, norm and classifier; `pre_logits` stops before the classifier."""
        x = x.permute(0, 2, 3, 1)
        if self.global_pool == "avg":
            x = x.mean((1, 2))
        x = self.head_drop(self.norm(x))
        if not pre_logits:
            x = self.head(x)
        return x if self.global_pool == "avg" else x.permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def init_weights(module: nn.Module) -> None:
    """Linear layers: truncated normal of 0.02, zero bias. Convolutions and norms keep PyTorch's own."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights for another image size: rotary angles are the model's own, they follow from the size."""
    own = {name: buffer for name, buffer in model.named_buffers() if name.endswith("rope.rotations")}
    state_dict = state_dict.get("model", state_dict)  # type: ignore[assignment]
    return {name: own.get(name, value) for name, value in state_dict.items()}


def _create(variant: str, pretrained: bool, config: dict[str, Any], **kwargs: Any) -> Mlla:
    check_stride(variant, kwargs)
    model = build_model_with_cfg(
        Mlla,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": "getter"},
        **{**config, **kwargs},
    )
    record_arguments(model, **kwargs)
    return model


default_cfgs = generate_default_cfgs(
    {
        f"mlla_{size}_{aggregation}.untrained": cfg(
            input_size=(3, 256, 256),
            pool_size=(8, 8),
            first_conv="patch_embed.conv1.conv",
            classifier="head",
            origin_url="",
        )
        for size in ("nano", "mini")
        for aggregation in AGGREGATIONS
    }
)


def _nano(aggregation: str, pretrained: bool, kwargs: dict[str, Any]) -> Mlla:
    return _create(f"mlla_nano_{aggregation}", pretrained, {"aggregation": aggregation}, **kwargs)


def _mini(aggregation: str, pretrained: bool, kwargs: dict[str, Any]) -> Mlla:
    size = {"embed_dim": 48, "depths": (2, 4, 8, 4), "drop_path_rate": 0.2}
    return _create(f"mlla_mini_{aggregation}", pretrained, {"aggregation": aggregation, **size}, **kwargs)


@register_model
def mlla_nano_recconv_nearest(pretrained: bool = False, **kwargs: Any) -> Mlla:
    """MLLA nano with RecConv 5x5, nearest."""
    return _nano("recconv_nearest", pretrained, kwargs)


@register_model
def mlla_nano_recconv_transposed(pretrained: bool = False, **kwargs: Any) -> Mlla:
    """MLLA nano with RecConv 5x5 and a transposed convolution."""
    return _nano("recconv_transposed", pretrained, kwargs)


@register_model
def mlla_nano_recattn(pretrained: bool = False, **kwargs: Any) -> Mlla:
    """MLLA nano with recursive attention."""
    return _nano("recattn", pretrained, kwargs)


@register_model
def mlla_nano_recattn_rope(pretrained: bool = False, **kwargs: Any) -> Mlla:
    """MLLA nano with recursive attention and rotary embedding."""
    return _nano("recattn_rope", pretrained, kwargs)


@register_model
def mlla_mini_recconv_nearest(pretrained: bool = False, **kwargs: Any) -> Mlla:
    """MLLA mini with RecConv 5x5, nearest."""
    return _mini("recconv_nearest", pretrained, kwargs)


@register_model
def mlla_mini_recconv_transposed(pretrained: bool = False, **kwargs: Any) -> Mlla:
    """MLLA mini with RecConv 5x5 and a transposed convolution."""
    return _mini("recconv_transposed", pretrained, kwargs)


@register_model
def mlla_mini_recattn(pretrained: bool = False, **kwargs: Any) -> Mlla:
    """MLLA mini with recursive attention."""
    return _mini("recattn", pretrained, kwargs)


@register_model
def mlla_mini_recattn_rope(pretrained: bool = False, **kwargs: Any) -> Mlla:
    """MLLA mini with recursive attention and rotary embedding."""
    return _mini("recattn_rope", pretrained, kwargs)
