"""Writing networks as safetensors files that tell everything needed to load them again."""

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Union

from torch import nn

from recnext.errors import RecNextError
from recnext.nn.fusion import batchnorms

from .loading import build, check_name
from .metadata import CheckpointMetadata, save_checkpoint
from .reading import read_weights

# how a network was built, not what it is
_LEFT_OUT = ("num_classes", "in_chans", "pretrained", "features_only", "out_indices", "distillation")


def save(
    model: nn.Module,
    path: Union[str, PathLike[str]],
    *,
    class_names: Optional[Sequence[str]] = None,
    model_args: Optional[Mapping[str, Any]] = None,
    epoch: Optional[int] = None,
) -> Path:
    """Writes a network to a safetensors file from which `recnext.load` needs no further argument.

    The file appears whole or not at all. Fused networks stay fused.

    Args:
        model: made by `recnext.load` or `timm.create_model`.
        path: ends in ``.safetensors``.
        class_names: in the order of the outputs; by default those the network was loaded with.
        model_args: constructor arguments, where they cannot be written as JSON as they are.
        epoch: of training, to be remembered.

    Returns:
        The path.

    Raises:
        RecNextError: another suffix, a number of names that is not the number of classes, a backbone without its
            name, or arguments that cannot be written.
        OSError: the file cannot be written; an old one is still there.
    """
    path = checked_output(path)
    metadata = describe(model, class_names=class_names, model_args=model_args, epoch=epoch)
    save_checkpoint(path, model.state_dict(), metadata)
    return path


def describe(
    model: nn.Module,
    *,
    class_names: Optional[Sequence[str]] = None,
    model_args: Optional[Mapping[str, Any]] = None,
    epoch: Optional[int] = None,
) -> CheckpointMetadata:
    """What a file has to say of a network; arguments and errors as of `save`."""
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    if "architecture" not in config or not hasattr(model, "reset_classifier"):
        raise RecNextError(
            f"cannot save {type(model).__name__}: expected a whole network of recnext.load or timm.create_model, "
            "not a wrapped one or one for features only"
        )
    names = config.get("label_names") if class_names is None else class_names
    if names is not None and len(names) != model.num_classes:
        if class_names is not None:
            raise RecNextError(f"{len(names)} class names for a network of {model.num_classes} classes")
        names = None  # of the weights it started from
    if model_args is None:
        model_args = {k: v for k, v in getattr(model, "_model_args", {}).items() if k not in _LEFT_OUT}
        model_args = {k: v for k, v in model_args.items() if v is not None}
    for key, value in model_args.items():
        try:
            json.dumps(value)
        except TypeError:
            raise RecNextError(
                f"the network's argument {key}={value!r} cannot be written to a file: give model_args that can"
            ) from None
    size = config.get("input_size", (3, 224, 224))
    return CheckpointMetadata(
        model=str(config["architecture"]),
        num_classes=int(model.num_classes),  # type: ignore[arg-type]
        model_args=model_args,
        class_names=None if names is None else tuple(names),
        input_size=(int(getattr(model, "in_chans", size[0])), *size[1:]),
        fused=not any(name.startswith(("stem", "patch_embed")) for name in batchnorms(model)),
        epoch=epoch,
        **{key: config[key] for key in ("mean", "std", "crop_pct", "interpolation") if key in config},
    )


def convert(
    checkpoint: str,
    path: Union[str, PathLike[str]],
    *,
    name: Optional[str] = None,
    ema: bool = False,
    fused: Optional[bool] = None,
    **model_args: Any,
) -> nn.Module:
    """Turns any checkpoint that `recnext.load` takes into one of our safetensors files.

    Args:
        checkpoint: as in `recnext.load`.
        path: ends in ``.safetensors``.
        name: of the network, where the checkpoint does not name it.
        ema: the moving average of the weights instead of the weights.
        fused: True folds every BatchNorm.
        **model_args: constructor arguments of the network.

    Returns:
        The network.

    Raises:
        RecNextError: as `load` and `save`.
        OSError: as `save`.
    """
    path = checked_output(path)
    if name is not None:
        check_name(name)
    weights = read_weights(checkpoint, ema=ema)
    model = build(name, weights, fused=fused, **model_args)
    save(model, path, epoch=weights.metadata.epoch if weights.metadata else None)
    return model


def checked_output(path: Union[str, PathLike[str]]) -> Path:
    """The path of a safetensors file to write.

    Raises:
        RecNextError: another suffix, or no such folder.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise RecNextError(f"{path} must end in .safetensors, the only format written")
    if not path.parent.is_dir():
        raise RecNextError(f"cannot write {path}: there is no folder {path.parent}")
    return path
