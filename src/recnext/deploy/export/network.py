"""From any image network to what the targets export, and to the reference that proves them."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Optional

import numpy as np
import torch
from timm.data import ImageNetInfo, resolve_model_data_config
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.fusion import fuse

from .preprocess import Plain, plain, with_preprocess
from .proof import Reference
from .spec import ExportSpec

IMAGENET = 1000
"""Classes of ImageNet-1k: a network of as many that names none has those, as in prediction."""


def exportable(network: nn.Module) -> nn.Module:
    """A fused copy in eval mode, in float32, on the CPU, without gradients; gives a tensor or a tuple of them."""
    fused = fuse(deepcopy(network).float().cpu())
    for parameter in fused.parameters():
        parameter.requires_grad_(False)
    return Plain(fused).eval()


def reference_of(network: nn.Module, spec: ExportSpec) -> Reference:
    """The original network, unfused if it was, behind the file's inputs and outputs."""
    original = with_preprocess(Plain(deepcopy(network).float().cpu().eval()), spec)

    def run(x: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = plain(original(torch.from_numpy(x)))
        return [output.numpy() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs)]

    return run


def described(network: nn.Module, **choices: Any) -> ExportSpec:
    """The spec of a network: what it says of itself, and the caller's choices over it.

    Args:
        network: of `recnext.load` or timm, or any module that maps normalised float32 (N, C, H, W) to a tensor, or
            to a list, tuple or mapping of them.
        **choices: fields of `ExportSpec`; None leaves what the network says.

    Raises:
        RecNextError: the network does not run on images of that size, or returns something else or no numbers.
    """
    config: dict[str, Any] = dict(getattr(network, "pretrained_cfg", None) or {})
    known: dict[str, Any] = {"name": config.get("architecture") or type(network).__name__.lower()}
    if config:
        data = resolve_model_data_config(network)
        channels = int(getattr(network, "in_chans", data["input_size"][0]))
        known |= {"channels": channels, "size": tuple(data["input_size"][1:])}
        known |= {key: data[key] for key in ("crop_pct", "interpolation")}
        known |= {key: _per_channel(data[key], channels) for key in ("mean", "std")}
        classes = getattr(network, "num_classes", 0)
        names = config.get("label_names")
        if names is None and classes == IMAGENET:
            names = ImageNetInfo().label_descriptions()
        if names is not None and len(names) == classes:
            known["class_names"] = tuple(names)
    known |= {key: value for key, value in choices.items() if value is not None}
    spec = ExportSpec(**known)
    outputs = _outputs(network, spec)
    classifier = isinstance(outputs, Tensor) and outputs.ndim == 2 and getattr(network, "num_classes", 1) != 0
    return ExportSpec(**{**known, "classifier": classifier, "outputs": _names(outputs, classifier, spec.preprocess)})


def _outputs(network: nn.Module, spec: ExportSpec) -> Any:
    example = torch.zeros(1, spec.channels, *spec.size)
    try:
        with torch.inference_mode():
            outputs = deepcopy(network).float().cpu().eval()(example)
            maps = plain(outputs)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RecNextError(f"{spec.name} does not run on an image of {tuple(example.shape)}: {reason}") from error
    if not isinstance(maps, Tensor) and not (maps and all(isinstance(part, Tensor) for part in maps)):
        raise RecNextError(f"{spec.name} returns {type(outputs).__name__}; expected a tensor, or several of them")
    if not all(part.isfinite().all() for part in ((maps,) if isinstance(maps, Tensor) else maps)):
        raise RecNextError(f"{spec.name} gives outputs that are not numbers: its weights are NaN or too large")
    return outputs


def _names(outputs: Any, classifier: bool, preprocess: bool) -> tuple[str, ...]:
    if classifier:
        return ("probabilities" if preprocess else "logits",)
    if isinstance(outputs, Mapping):
        return tuple(f"features_{key}" for key in outputs)
    return ("features",) if isinstance(outputs, Tensor) else tuple(f"features_{i}" for i in range(len(outputs)))


def _per_channel(values: Any, channels: int) -> Optional[tuple[float, ...]]:
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
