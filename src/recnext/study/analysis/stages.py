"""A network stage by stage: shape, parameters, MACs and receptive field, without computing anything."""

from dataclasses import asdict, dataclass
from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from recnext.checkpoints.architecture import read_architecture
from recnext.checkpoints.published import published
from recnext.errors import RecNextError
from recnext.nn.fusion import fuse
from recnext.nn.mixers import LinearAttention, RecAttn2d

from .cost import count_parameters
from .receptive_field import nominal_receptive_field


@dataclass(frozen=True)
class StageFacts:
    """One stage of a network at one image size."""

    name: str
    """Of the module, or "stem" and "head"."""
    shape: tuple[int, ...]
    """Of what it gives: (C, H, W), or (classes,)."""
    parameters: int
    macs: int
    receptive_field: Optional[int]
    """In pixels of the image; None when attention sees all of it."""


def read_stages(model: nn.Module, size: tuple[int, int]) -> list[StageFacts]:
    """What every part of a network gives and costs.

    Receptive fields are those of theory: a k x k convolution adds k - 1 times the stride so far, RecConv counts as
    a convolution of k·2^level, and attention sees the whole map. MACs are counted by torch's flop counter:
    convolutions and matrix products.

    Args:
        model: of `timm.create_model`, with timm's ``feature_info``; on the meta device nothing is allocated.
        size: height and width of the image in pixels.

    Raises:
        RecNextError: the network cannot take images of that size.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    parts = _parts(model)
    hooks = [part.register_forward_hook(_remember(shapes, name)) for name, part in parts.items()]
    channels = int(getattr(model, "in_chans", 3))
    parameter = next(model.parameters())
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(torch.empty(1, channels, *size, device=parameter.device, dtype=parameter.dtype))
    except RuntimeError as error:
        raise RecNextError(f"the network cannot take images of {size[0]}x{size[1]}: {error}") from None
    finally:
        for hook in hooks:
            hook.remove()
    flops = {name.partition(".")[2]: sum(by_kind.values()) for name, by_kind in counter.get_flop_counts().items()}
    field = _Field()
    stages = []
    for name, part in parts.items():
        field.through(part)
        stages.append(
            StageFacts(
                name=name,
                shape=shapes[name],
                parameters=count_parameters(part),
                macs=flops.get(name, 0) // 2,
                receptive_field=field.size if len(shapes[name]) == 3 else None,
            )
        )
    return stages


def network_facts(network: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    """All that `recnext info` shows of a network, ready for JSON.

    Args:
        network: as of `read_stages`.
        size: height and width of the image in pixels.
    """
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    fused = fuse(network)
    stages, own = read_stages(fused, size), read_stages(network, size)
    name = config["architecture"]
    found = read_architecture(network.state_dict())
    is_published = found is not None and (found.name, found.num_classes) == (name, 1000)  # no narrower one
    return {
        "name": name,
        "image_size": list(size),
        "parameters": count_parameters(network),
        "fused_parameters": count_parameters(fused),
        "macs": sum(stage.macs for stage in stages),
        "num_classes": network.num_classes,
        "class_names": config.get("label_names"),
        "preparation": {key: config.get(key) for key in ("mean", "std", "crop_pct", "interpolation")},
        "license": config.get("license"),
        "published": published()["classification"].get(name, {}) if is_published else {},
        "stages": [
            {**asdict(stage), "parameters": unfused.parameters, "fused_parameters": stage.parameters}
            for stage, unfused in zip(stages, own, strict=True)
        ],
    }


class _Field:
    """Grows a receptive field along the modules, which lie in the order in which they run."""

    def __init__(self) -> None:
        self.size: Optional[int] = 1
        self.stride = 1

    def through(self, module: nn.Module) -> None:
        level = getattr(module, "level", None)
        if isinstance(module, (RecAttn2d, LinearAttention)):
            self.size = None
        elif isinstance(level, int):  # RecConv and its variants
            kernel = max(part.kernel_size[0] for part in module.modules() if isinstance(part, nn.Conv2d))
            self._grow(nominal_receptive_field(kernel, level=level))
        elif isinstance(module, nn.Conv2d):
            self._grow(module.kernel_size[0])
            self.stride *= module.stride[0]
        else:
            for child in module.children():
                self.through(child)

    def _grow(self, width: int) -> None:
        if self.size is not None:
            self.size += (width - 1) * self.stride


def _parts(model: nn.Module) -> dict[str, nn.Module]:
    """Stem, stages and head, by the names of their modules."""
    stages = [str(info["module"]).removesuffix(".blocks") for info in model.feature_info]  # type: ignore[union-attr]
    top = stages[0].partition(".")[0]
    parts: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if name == top:
            parts.update({stage: model.get_submodule(stage) for stage in stages})
        elif any(True for _ in child.parameters()):
            parts[name] = child
    return parts


def _remember(shapes: dict[str, tuple[int, ...]], name: str):  # type: ignore[no-untyped-def]
    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes[name] = tuple(output.shape[1:])

    return hook
