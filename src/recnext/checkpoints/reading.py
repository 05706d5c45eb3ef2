"""From any weight file to a state dict under our names, and what is known about it."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import safetensors
import safetensors.torch
from torch import Tensor

from recnext.errors import RecNextError

from .metadata import CheckpointMetadata, read_metadata
from .pickles import read_pickle, read_torchscript
from .sources import EMA_RUN_FILES, HUB_FILES, find_file

_WEIGHTS = ("model", "state_dict", "module")  # where training files keep the weights
_EMA_WEIGHTS = ("model_ema", "state_dict_ema", "ema")  # and their moving average
_WRAPPERS = ("module.", "_orig_mod.", "model.")  # DDP, torch.compile, Lightning


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors by name and where they came from."""

    state: dict[str, Tensor]
    metadata: Optional[CheckpointMetadata]
    """None when the file does not say."""
    source: str
    """For messages."""


def read_weights(checkpoint: str, *, ema: bool = False) -> Weights:
    """Reads weights from any place and format that `recnext.load` takes.

    Args:
        checkpoint: a file, a run folder or a hub id.
        ema: the moving average instead of the weights themselves.

    Raises:
        RecNextError: there is no such checkpoint, no moving average in it, or it cannot be read.
    """
    path = find_file(checkpoint, ema=ema)
    ema = ema and path.name not in EMA_RUN_FILES  # such a file is the average itself
    kind = _format(path)
    metadata = None
    if kind == "safetensors":
        metadata, content = read_metadata(path), _read_safetensors(path)
    else:
        content = read_torchscript(path) if kind == "torchscript" else read_pickle(path)
    state = _unwrapped(_weights(content, path, ema=ema))
    if metadata is None and path.name in HUB_FILES:
        metadata = _hub_metadata(path.parent / "config.json")
    return Weights(state=state, metadata=metadata, source=checkpoint)


def _format(path: Path) -> str:
    """safetensors, torchscript or pickle, from the content alone.

    Raises:
        RecNextError: the content is none of them, and what it seems to be instead.
    """
    with path.open("rb") as file:
        start = file.read(512)
    text = start.lstrip().lower()
    if not start:
        raise RecNextError(f"{path} is empty: the download or copy failed; get it again")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise RecNextError(
            f"{path} is a web page, not weights: the link led to a page about the file; take its download link"
        )
    if start.startswith(b"version https://git-lfs"):
        raise RecNextError(f"{path} is a Git LFS pointer, not the weights: run 'git lfs pull' where it came from")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
        return "safetensors"
    if start.startswith(b"PK"):
        return _zip_format(path)
    if start[:1] == b"\x80" or path.suffix in (".pth", ".bin", ".ckpt"):
        return "pickle"
    raise RecNextError(
        f"{path} is no weight file: expected safetensors, a PyTorch .pth or a TorchScript .pt; is it the right file?"
    )


def _zip_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        raise RecNextError(f"{path} is damaged or cut off; download or copy it again") from None
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        return "torchscript"
    if "data.pkl" in inner:
        return "pickle"
    if any("archive_format" in name or name.endswith("serialized_exported_program.json") for name in names):
        raise RecNextError(f"{path} is a torch.export program, which has no weights to load: take the checkpoint")
    raise RecNextError(f"{path} is an archive without weights ({', '.join(names[:3])}); is it the right file?")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(str(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise RecNextError(f"{path} is damaged or cut off ({error}); download or copy it again") from None


def _weights(content: Any, path: Path, *, ema: bool) -> dict[str, Tensor]:
    """The state dict inside what a file holds."""
    if isinstance(content, Mapping) and ema:
        found = next((content[key] for key in _EMA_WEIGHTS if content.get(key) is not None), None)
        if found is None:
            raise RecNextError(f"{path} holds no moving average (EMA) of the weights; load it without ema")
        return _weights(found, path, ema=False)
    if isinstance(content, Mapping):
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        for key in _WEIGHTS:
            if isinstance(content.get(key), Mapping):
                return _weights(content[key], path, ema=False)
        held = f"a mapping with {', '.join(map(str, list(content)[:5])) or 'nothing'} in it"
    else:
        held = f"a {type(content).__name__}"
    raise RecNextError(f"{path} holds {held}, not a state dict: expected tensors, or {{'model': tensors}}")


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes of DistributedDataParallel, torch.compile and the like, in any order."""
    for prefix in _WRAPPERS * len(_WRAPPERS):
        if state and all(key.startswith(prefix) or key == "n_averaged" for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items() if key != "n_averaged"}
    return state


def _hub_metadata(path: Path) -> Optional[CheckpointMetadata]:
    """What the config.json that timm writes beside hub weights says; None without one."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or "architecture" not in config:
        return None
    preparation = config.get("pretrained_cfg", config)
    names = config.get("label_names") or preparation.get("label_names")
    arguments = {k: v for k, v in config.get("model_args", {}).items() if k not in ("num_classes", "in_chans")}
    metadata = CheckpointMetadata(
        model=str(config["architecture"]).partition(".")[0],
        num_classes=config.get("num_classes") or preparation.get("num_classes", 1000),
        model_args=arguments,
        class_names=tuple(names) if names else None,
    )
    known: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key in ("input_size", "mean", "std", "crop_pct", "interpolation")
        if (value := preparation.get(key)) is not None
    }
    return replace(metadata, **known)
