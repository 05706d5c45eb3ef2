"""`recnext.load`: a network with weights from anywhere."""

import reprlib
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from inspect import signature
from os import PathLike, fspath
from typing import Any, Optional, Union

import timm
import torch
from timm.models import FeatureListNet, get_pretrained_cfg
from timm.models._features import FeatureGetterNet
from torch import nn

from recnext.errors import RecNextError
from recnext.nn.fusion import batchnorms, replace_batchnorm
from recnext.nn.models import RecNext

from .architecture import read_architecture
from .fitting import adapted_images, load_state
from .metadata import CheckpointMetadata
from .reading import Weights, read_weights

_OWN = {"self", "device", "dtype", "pretrained", "pretrained_cfg", "cache_dir"}  # not for callers or files to choose
_OTHER_TASKS = (  # beginnings of keys, what has them, and where it is read
    ("roi_head", "detector (recnext detect)", "detection"),
    ("decode_head.", "segmenter (recnext segment)", "segmentation"),
)


def load(
    name: Optional[str] = None,
    *,
    checkpoint: Optional[Union[str, PathLike[str]]] = None,
    pretrained: bool = False,
    fused: Optional[bool] = None,
    ema: bool = False,
    num_classes: Optional[int] = None,
    in_chans: Optional[int] = None,
    features_only: bool = False,
    device: Union[str, torch.device] = "cpu",
    **model_args: Any,
) -> nn.Module:
    """Builds a network and gives it weights.

    Args:
        name: a timm name such as ``recnext_m1`` or ``recnext_t.base_300e_in1k``; not needed where the checkpoint
            tells it, by its metadata or by the shapes of its tensors.
        checkpoint: a safetensors file, a PyTorch ``.pth`` (also with optimiser, EMA and arguments in it), a fused
            TorchScript ``.pt``, a run folder, or a hub id (``owner/name``, also ``hf-hub:owner/name@revision``).
            Pickles are read without running anything in them.
        pretrained: the published weights of `name`, from the hub.
        fused: True folds every BatchNorm; None keeps what the checkpoint has; False insists on an unfused one.
        ema: the moving average of the weights instead of the weights.
        num_classes: classes; another number than the checkpoint's makes new heads on its backbone, 0 none. By
            default the checkpoint's.
        in_chans: image channels; another number than the checkpoint's 3 adapts the first convolution, as timm
            does. By default the checkpoint's.
        features_only: a backbone that returns the stages' maps (timm's ``features_only``); takes ``out_indices``.
        device: where the network goes.
        **model_args: constructor arguments of the network, over those in the checkpoint's metadata.

    Returns:
        The network, in eval mode. Its ``pretrained_cfg`` tells image size, mean, std, crop and class names
        (``label_names``) as timm's data functions expect. Without checkpoint and pretrained, weights are random.

    Raises:
        RecNextError: no such network or checkpoint, the two do not fit, or the file cannot be read.
    """
    if name is not None:
        check_name(name)
    if checkpoint is not None and pretrained:
        raise RecNextError("checkpoint and pretrained are both given: take one")
    if pretrained:
        checkpoint = _published_id(name)
    weights = None if checkpoint is None else read_weights(fspath(checkpoint), ema=ema)
    if weights is None and ema:
        raise RecNextError("ema needs a checkpoint")
    return build(
        name,
        weights,
        fused=fused,
        num_classes=num_classes,
        in_chans=in_chans,
        features_only=features_only,
        device=device,
        **model_args,
    )


def build(
    name: Optional[str],
    weights: Optional[Weights],
    *,
    fused: Optional[bool] = None,
    num_classes: Optional[int] = None,
    in_chans: Optional[int] = None,
    features_only: bool = False,
    device: Union[str, torch.device] = "cpu",
    **model_args: Any,
) -> nn.Module:
    """`load` with the checkpoint read already; None leaves the weights random."""
    out_indices = model_args.pop("out_indices", (0, 1, 2, 3))
    if weights is None:
        if name is None:
            raise RecNextError("neither a network's name nor a checkpoint is given")
        sizes = {"num_classes": num_classes, "in_chans": in_chans}
        model = _create(name, **{key: value for key, value in sizes.items() if value is not None}, **model_args)
    else:
        model = _with_weights(name, weights, num_classes=num_classes, in_chans=in_chans, fused=fused, **model_args)
    if fused:
        replace_batchnorm(model)
    if features_only:
        model = _features(model, out_indices)
    return model.eval().to(device)


def check_name(name: str) -> None:
    """Raises RecNextError where timm knows no network of that name, with the nearest ones."""
    if timm.is_model(name):
        return
    close = get_close_matches(name, [*timm.list_models("recnext_*"), *timm.list_models("mlla_*")], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "'recnext list' shows them"
    raise RecNextError(f"no network is called {name!r}: {hint}")


def _published_id(name: Optional[str]) -> str:
    if name is None:
        raise RecNextError("pretrained needs the name of a network")
    config = get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise RecNextError(f"{name} has no published weights; give a checkpoint")
    return f"hf-hub:{config.hf_hub_id}"


def _with_weights(
    name: Optional[str],
    weights: Weights,
    *,
    num_classes: Optional[int],
    in_chans: Optional[int],
    fused: Optional[bool],
    **model_args: Any,
) -> nn.Module:
    for prefix, what, module in _OTHER_TASKS:
        if any(key.startswith(prefix) for key in weights.state):
            raise RecNextError(f"{weights.source} is a {what}, not a classifier: recnext.{module}.load reads it")
    metadata, found = weights.metadata, read_architecture(weights.state)
    if fused is False and (found.fusion != "unfused" if found else metadata is not None and metadata.fused):
        raise RecNextError(
            f"{weights.source} is fused, which cannot be undone: load it with fused=None or True, or take the "
            "unfused weights it was made from (for training these are needed)"
        )
    if name is None:
        name = network_of(weights)
        if name is None:
            what = f"holds {found}, which has no name" if found else "does not say which network it is"
            raise RecNextError(f"{weights.source} {what}: give the name of the network, and its arguments if any")
        check_name(name)
    own_args = dict(metadata.model_args) if metadata and _base(metadata.model) == _base(name) else {}
    channels = found.in_chans if found else own_args.pop("in_chans", metadata.input_size[0] if metadata else 3)
    classes = found.num_classes if found else metadata.num_classes if metadata else 1000
    own_args = {key: value for key, value in own_args.items() if key not in ("in_chans", "num_classes")}
    sizes = {"num_classes": classes, "in_chans": in_chans or channels}
    if own_args:
        _check_size(name, weights, **sizes, **own_args)
    model = _create(name, **{**sizes, **own_args, **model_args})
    state = adapted_images(weights, model, channels=channels, in_chans=in_chans or channels)
    load_state(model, state, source=weights.source)
    _describe(model, metadata)
    if num_classes is not None and num_classes != classes:
        _new_heads(model, num_classes)
    return model


def network_of(weights: Weights) -> Optional[str]:
    """Name of the network that weights are of, by their metadata or their shapes; None where neither tells."""
    if weights.metadata is not None:
        return weights.metadata.model
    found = read_architecture(weights.state)
    return None if found is None else found.name


def _base(name: str) -> str:
    return name.partition(".")[0]


def _create(name: str, **arguments: Any) -> nn.Module:
    known = _constructor_arguments(name)
    if unknown := sorted(arguments.keys() - known):  # files bring arguments: none may reach timm's own, which fetch
        close = get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "expected arguments of its constructor"
        raise RecNextError(f"{name} has no argument {unknown[0]!r}: {hint}")
    try:
        return timm.create_model(name, **arguments)
    except RecNextError:
        raise
    except Exception as error:  # what wrong arguments raise in constructors is of many kinds
        shown = ", ".join(f"{key}={reprlib.repr(value)}" for key, value in arguments.items())
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RecNextError(f"{name} cannot be built with {shown}: {reason}") from None


def _check_size(name: str, weights: Weights, **arguments: Any) -> None:
    """Raises RecNextError where a file's own arguments ask for more than twice the numbers that it holds."""
    depths = arguments.get("depths")
    blocks = sum(depth for depth in depths if isinstance(depth, int)) if isinstance(depths, list) else 0
    with torch.device("meta"):
        network = _create(name, **arguments) if blocks <= len(weights.state) else None
    held = sum(value.numel() for value in weights.state.values())
    if network is None or sum(value.numel() for value in network.state_dict().values()) > 2 * held + 1_000_000:
        raise RecNextError(f"{weights.source} asks for a larger network than its tensors make: is it damaged?")


def _constructor_arguments(name: str) -> set[str]:
    """What the network's classes can be built with; nothing of `timm.create_model` itself is among it."""
    made_in = vars(sys.modules[timm.model_entrypoint(name).__module__])
    networks = [value for value in made_in.values() if isinstance(value, type) and issubclass(value, nn.Module)]
    found = {argument for network in networks for argument in signature(network.__init__).parameters}
    return {"num_classes", "in_chans", *found} - _OWN


def _describe(model: nn.Module, metadata: Optional[CheckpointMetadata]) -> None:
    """Puts what the metadata says where timm's data functions look for it."""
    known: dict[str, Any] = {"num_classes": model.num_classes}
    if metadata is not None:
        known |= {key: getattr(metadata, key) for key in ("input_size", "mean", "std", "crop_pct", "interpolation")}
        if metadata.class_names is not None and len(metadata.class_names) == model.num_classes:
            known["label_names"] = metadata.class_names
    if hasattr(model, "in_chans"):
        size = known.get("input_size") or model.pretrained_cfg.get("input_size", (3, 224, 224))  # type: ignore[operator, union-attr]
        known["input_size"] = (model.in_chans, *size[1:])
    _update_config(model, known)


def _new_heads(model: nn.Module, num_classes: int) -> None:
    whole = not batchnorms(model)
    model.reset_classifier(num_classes)  # type: ignore[operator]
    if whole and num_classes == 0:
        replace_batchnorm(model)
    model.pretrained_cfg.pop("label_names", None)  # type: ignore[operator, union-attr]
    _update_config(model, {"num_classes": num_classes})


def _update_config(model: nn.Module, known: Mapping[str, Any]) -> None:
    model.pretrained_cfg = model.default_cfg = {**model.pretrained_cfg, **known}  # type: ignore[assignment, dict-item]


def _features(model: nn.Module, out_indices: Any) -> nn.Module:
    """timm's features_only of a model that has its weights."""
    config = model.pretrained_cfg
    if isinstance(model, RecNext):
        features: nn.Module = FeatureListNet(model, out_indices=out_indices, flatten_sequential=True)
    else:
        features = FeatureGetterNet(model, out_indices=out_indices)
    features.pretrained_cfg = features.default_cfg = config
    return features
