"""The network around the families' blocks, with timm's whole model contract, and its registration."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Union, cast

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import get_device_dtype
from timm.models import build_model_with_cfg, get_arch_pretrained_cfgs
from torch import Tensor, nn

from recnext.errors import RecNextError

from .blocks import Classifier, Stem

TAGS = ("dist_300e_in1k", "base_300e_in1k")  # the first is timm's default


class Backbone(nn.Module):
    """What timm asks of a network, where RecNeXt and MLLA answer alike."""

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay besides those timm's optimisers already leave out (1-D and biases)."""
        return set()

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes every block in the backward pass, for less memory."""
        for module in self.modules():
            if hasattr(module, "grad_checkpointing"):
                cast(Any, module).grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """The classifier: both heads of a RecNeXt, or one layer; Identity without classes."""
        return cast(nn.Module, self.head)


class RecNext(Backbone):
    """Stem, four stages, pooled classifier; the families differ in the stem and in what a stage is made of.

    Args:
        stem: maps an image to `embed_dim[0]` channels; has `stride`.
        stages: one module per width, each but the first halving the map.
        embed_dim: channels of each stage.
        in_chans: image channels.
        num_classes: 0 for pooled features.
        global_pool: "avg", or "" for the map.
        distillation: while training, return (logits, distillation logits).
        drop_rate: dropout before the classifier.
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, in_chans, H, W) to (N, num_classes), any H and W from 32.
    """

    def __init__(
        self,
        stem: Stem,
        stages: Sequence[nn.Module],
        *,
        embed_dim: Sequence[int],
        in_chans: int,
        num_classes: int,
        global_pool: str,
        distillation: Optional[bool],
        drop_rate: float,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.embed_dim = tuple(embed_dim)
        self.drop_rate = drop_rate
        self.global_pool = checked_pool(global_pool)
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.feature_info = [
            {"num_chs": width, "reduction": stem.stride * 2**i, "module": f"stages.{i}"}
            for i, width in enumerate(embed_dim)
        ]
        self.num_features = self.head_hidden_size = embed_dim[-1]
        self.head_drop = nn.Dropout(drop_rate)
        self.head = Classifier(
            embed_dim[-1], num_classes, distilled_training=bool(distillation), device=device, dtype=dtype
        )

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Groups of parameter names for layer-wise learning rates: stem, then stages or blocks."""
        if coarse:
            return {"stem": r"^stem", "blocks": r"^stages\.(\d+)"}
        return {
            "stem": r"^stem",
            "blocks": [(r"^stages\.(\d+)\.downsample", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)],
        }

    def reset_classifier(
        self,
        num_classes: int,
        global_pool: Optional[str] = None,
        distillation: Optional[bool] = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """New heads for `num_classes` classes (0: none); `distillation` None keeps what is set."""
        dd = get_device_dtype(self, device=device, dtype=dtype)
        if global_pool is not None:
            self.global_pool = checked_pool(global_pool)
        if distillation is None:
            distillation = getattr(self.head, "distilled_training", False)
        self.num_classes = num_classes
        self.head = Classifier(self.num_features, num_classes, distilled_training=distillation, **dd)
        self.head.train(self.training)
        record_arguments(self, num_classes=num_classes, global_pool=self.global_pool, distillation=distillation)

    @torch.jit.ignore
    def set_distilled_training(self, enable: bool = True) -> None:
        """While training, return (logits, distillation logits), as timm's TokenDistillationTask expects.

        Raises:
            RecNextError: on a fused network, whose heads are one.
        """
        if not isinstance(self.head, Classifier):
            raise RecNextError(
                "set_distilled_training: a fused network has one head; distil before fusing, "
                "or call reset_classifier first"
            )
        self.head.distilled_training = enable

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Optional[Union[int, list[int]]] = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Union[list[Tensor], tuple[Tensor, list[Tensor]]]:
        """The outputs of some stages, and the last map.

        Args:
            x: (N, in_chans, H, W).
            indices: the last n stages if an int, all if None, else the stages in the list.
            norm: no effect: stages end without a norm of their own.
            stop_early: do not run the stages after the last one asked for.
            output_fmt: "NCHW".
            intermediates_only: leave the last map out of the result.

        Returns:
            A list of maps (N, embed_dim[i], H_i, W_i), or (last map, that list).
        """
        if output_fmt != "NCHW":
            raise RecNextError(f"forward_intermediates: output_fmt={output_fmt!r} must be NCHW")
        take, last = take_indices(len(self.stages), indices)
        intermediates = []
        x = self.stem(x)
        stages = self.stages if torch.jit.is_scripting() or not stop_early else self.stages[: last + 1]
        for i, stage in enumerate(stages):
            x = stage(x)
            if i in take:
                intermediates.append(x)
        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
        self, indices: Union[int, list[int]] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops the stages after the last one in `indices`, and the classifier, which no longer fits."""
        take, last = take_indices(len(self.stages), indices)
        cut = last < len(self.stages) - 1
        self.stages = self.stages[: last + 1]
        if cut:
            self.num_features = self.head_hidden_size = self.embed_dim[last]
        if prune_head or cut:
            self.reset_classifier(0, "")
        return take

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) to the last stage's map."""
        return self.stages(self.stem(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False):  # type: ignore[no-untyped-def]
        """The last map to logits, or to pooled features with `pre_logits`."""
        if self.global_pool == "avg":
            x = x.mean((2, 3))
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor):  # type: ignore[no-untyped-def]
        return self.forward_head(self.forward_features(x))


def record_arguments(model: nn.Module, **arguments: Any) -> None:
    """Records what a network was changed to with its constructor's arguments, where timm reads them to build it again.

    timm's `create_model` adds to the same name; files hold what stands there, whether timm does or not.
    """
    elsewhere = ("device", "dtype", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args")
    arguments = {key: value for key, value in arguments.items() if key not in elsewhere}
    model._model_args = {**getattr(model, "_model_args", {}), **arguments}  # type: ignore[assignment]


def take_indices(count: int, indices: Optional[Union[int, Sequence[int]]]) -> tuple[list[int], int]:
    """The indices of the stages that are asked for, and the last of them.

    Args:
        count: stages that there are.
        indices: the last n if an int, at most `count`, all if None, else those in the list, from the end if negative.

    Raises:
        RecNextError: there is no such stage.
    """
    if isinstance(indices, int):
        asked: Sequence[int] = range(count - indices, count) if 0 < indices <= count else ()
    else:
        asked = range(count) if indices is None else indices
    if len(asked) == 0 or any(not -count <= i < count for i in asked):
        raise RecNextError(f"indices={indices}: the network has {count} stages, 0 to {count - 1}")
    taken = [i % count for i in asked]
    return taken, max(taken)


def checked_pool(global_pool: str) -> str:
    """The pooling, if it is one that the networks have.

    Raises:
        RecNextError: it is not.
    """
    if global_pool not in ("", "avg"):
        raise RecNextError(f"global_pool={global_pool!r} must be 'avg', or '' for the unpooled map")
    return global_pool


def cfg(**kwargs: Any) -> dict[str, Any]:
    """timm's pretrained configuration of a published network."""
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.stem.0.conv",
        "classifier": ("head.head.linear", "head.head_dist.linear"),
        "license": "apache-2.0",
        "paper_name": "RecConv: Efficient Recursive Convolutions for Multi-Frequency Representations",
        "paper_ids": "arXiv:2412.19628",
        "origin_url": "https://github.com/suous/RecNeXt",
        **kwargs,
    }


def published_cfgs(names: Sequence[str], **kwargs: Any) -> dict[str, dict[str, Any]]:
    """Configurations of both published weights of each name, distilled first (timm's default)."""
    return {f"{name}.{tag}": cfg(hf_hub_id=f"suous/{name}.{tag}", **kwargs) for name in names for tag in TAGS}


def create(
    model_cls: Callable[..., RecNext],
    variant: str,
    pretrained: bool,
    *,
    config: Mapping[str, Any],
    pretrained_cfg: Any = None,
    distillation: Optional[bool] = None,
    **kwargs: Any,
) -> RecNext:
    """Makes a registered network of the constructor's arguments in `config`, but for those in `kwargs`.

    `distillation` is the published switch: it picks the weights, where there are any and no tag is given, and
    True makes the network return both heads while training.

    Raises:
        RecNextError: an output stride is asked for: the networks are not dilated.
    """
    check_stride(variant, kwargs)
    if pretrained_cfg is None and distillation is not None:
        tag = TAGS[0] if distillation else TAGS[1]
        if f"{variant}.{tag}" in get_arch_pretrained_cfgs(variant):
            pretrained_cfg = tag
    if isinstance(pretrained_cfg, dict):  # of the hub, where the published ones leave these two empty
        ours = {key: value for key, value in cfg().items() if key in ("first_conv", "classifier")}
        pretrained_cfg = {**pretrained_cfg, **{k: pretrained_cfg.get(k) or value for k, value in ours.items()}}
    out_indices = kwargs.pop("out_indices", (0, 1, 2, 3))
    model = build_model_with_cfg(
        model_cls,
        variant,
        pretrained,
        pretrained_cfg=pretrained_cfg,
        feature_cfg={"flatten_sequential": True, "out_indices": out_indices},
        distillation=distillation,
        **{**config, **kwargs},
    )
    record_arguments(model, **kwargs)
    return model


def check_stride(variant: str, kwargs: dict[str, Any]) -> None:
    """Takes `output_stride` out of a network's arguments; raises RecNextError unless it is timm's default of 32."""
    stride = kwargs.pop("output_stride", 32)
    if stride not in (None, 32):
        raise RecNextError(
            f"{variant}: output_stride={stride} asks for dilated stages, which RecNeXt has not: leave it out, "
            "and take a decoder for strides up to 32, such as FPN or UPerNet"
        )
