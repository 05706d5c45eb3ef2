"""From any image network to what the targets export, and to the reference that proves them."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Optional

import numpy as np
import torch
from timm.data import ImageNetInfo, resolve_model_data_config
from torch import Tensor, nn

from recnext.deploy.optimize.network import first_line
from recnext.errors import RecNextError
from recnext.nn.fusion import fuse
from recnext.tasks.detection.model import Detector
from recnext.tasks.segmentation.model import SemanticFPN

from .preprocess import Plain, plain, with_preprocess
from .proof import Reference
from .spec import ExportSpec

IMAGENET = 1000
"""Classes of ImageNet-1k: a network of as many that names none has those, as in prediction."""


class Exportable:
    """A network for any number of exports.

    Args:
        network: any image network; it stays as it is. Of a detector its backbone with the pyramid is exported, all that
            a graph of fixed structure can hold.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network.backbone if isinstance(network, Detector) else network
        self._programs: dict[ExportSpec, bytes] = {}

    def module(self) -> Plain:
        """A fused copy in eval mode, in float32, on the CPU, without gradients; gives a tensor or a tuple of them."""
        fused = fuse(deepcopy(self.network).float().cpu())
        for parameter in fused.parameters():
            parameter.requires_grad_(False)
        return Plain(fused, self._programs).eval()

    def reference(self, spec: ExportSpec) -> Reference:
        """The original network, unfused if it was, behind the file's inputs and outputs."""
        original = with_preprocess(Plain(deepcopy(self.network).float().cpu().eval()), spec)

        def run(x: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                outputs = plain(original(torch.from_numpy(x)))
            return [output.numpy() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs)]

        return run


def described(network: nn.Module, **choices: Any) -> ExportSpec:
    """The spec of a network: what it says of itself, and the caller's choices over it.

    Args:
        network: of `recnext.load` or timm, a detector or segmenter of ours, or any module that maps normalised float32
            (N, C, H, W) to a tensor, or to a list, tuple or mapping of them.
        **choices: fields of `ExportSpec`; None leaves what the network says.

    Raises:
        RecNextError: the network does not run on images of that size, or returns something else or no numbers.
    """
    known = {**_known(network), **{key: value for key, value in choices.items() if value is not None}}
    spec = ExportSpec(**known)
    network = Exportable(network).network
    outputs = _outputs(network, spec)
    classifier = isinstance(outputs, Tensor) and outputs.ndim == 2 and getattr(network, "num_classes", 1) != 0
    return ExportSpec(**{"outputs": _names(outputs, classifier, spec.preprocess), **known, "classifier": classifier})


def _known(network: nn.Module) -> dict[str, Any]:
    """What a network says of itself, as fields of `ExportSpec`."""
    if isinstance(network, Detector):
        mean, std = tuple(network.transform.image_mean), tuple(network.transform.image_std)
        return {"name": f"{network.config.backbone}_detector", "mean": mean, "std": std}
    config: dict[str, Any] = dict(getattr(network, "pretrained_cfg", None) or {})
    known: dict[str, Any] = {"name": config.get("architecture") or type(network).__name__.lower()}
    if not config:
        return known
    data = resolve_model_data_config(network)
    channels = int(getattr(network, "in_chans", data["input_size"][0]))
    known |= {"channels": channels, "size": tuple(data["input_size"][1:])}
    known |= {key: data[key] for key in ("crop_pct", "interpolation")}
    known |= {key: _per_channel(data[key], channels) for key in ("mean", "std")}
    if isinstance(network, SemanticFPN):
        known |= {
            "name": f"{known['name']}_segmenter",
            "size": (network.image_size,) * 2,
            "class_names": network.class_names,
        }
        return {**known, "interpolation": "bilinear", "crop_pct": 1.0, "outputs": ("logits",)}
    classes = getattr(network, "num_classes", 0)
    names = config.get("label_names")
    if names is None and classes == IMAGENET:
        names = ImageNetInfo().label_descriptions()
    if names is not None and len(names) == classes:
        known["class_names"] = tuple(names)
    return known


def _outputs(network: nn.Module, spec: ExportSpec) -> Any:
    example = torch.zeros(1, spec.channels, *spec.size)
    try:
        with torch.inference_mode():
            outputs = deepcopy(network).float().cpu().eval()(example)
            maps = plain(outputs)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        where = f"an image of {tuple(example.shape)}"
        raise RecNextError(f"{spec.name} does not run on {where}: {first_line(error)}") from error
    maps = (maps,) if isinstance(maps, Tensor) else maps
    if not (maps and all(isinstance(part, Tensor) for part in maps)):
        raise RecNextError(f"{spec.name} returns {type(outputs).__name__}; expected a tensor, or several of them")
    if not all(part.isfinite().all() for part in maps):
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
