"""From any weight file to a state dict under our names, and what is known about it."""

import json
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
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
_CONFIG = ("num_classes", "input_size", "mean", "std", "crop_pct", "interpolation")  # what timm says of a network
_PACKED = (".py", ".debug_pkl")  # programs, which torch compresses and nothing here reads
_DEPTH = 5  # of the mappings around them
# DDP, torch.compile, Lightning and others
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.", "timm_model.")
_FIRST = (  # tensors that tell where the names of a network begin: of segmenters, detectors, classifiers
    "decode_head.conv_seg.weight",
    "roi_head.bbox_head.fc_cls.weight",
    "roi_heads.box_predictor.cls_score.weight",
    "stem.stem.0.conv.weight",
    "stem.stem.0.weight",
    "patch_embed.conv1.conv.weight",
)
_LOG = logging.getLogger("recnext")


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
    state = _unwrapped(_weights(content, path, ema=ema), path)
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
    if start[:1] == b"\x80" or path.suffix.lower() in (".pth", ".bin", ".ckpt"):
        return "pickle"
    raise RecNextError(
        f"{path} is no weight file: expected safetensors, a PyTorch .pth or a TorchScript .pt; is it the right file?"
    )


def _zip_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            size = sum(one.file_size for one in archive.infolist() if not one.filename.endswith(_PACKED))
    except (zipfile.BadZipFile, OSError):
        raise RecNextError(f"{path} is damaged or cut off; download or copy it again") from None
    if size > path.stat().st_size:
        raise RecNextError(f"{path} is larger than the file once it is unpacked, as torch writes none: refused")
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
    """The state dict inside what a file holds; a tensor next to a mapping of weights is none of them."""
    if isinstance(content, Mapping) and ema:
        content = next((content[key] for key in _EMA_WEIGHTS if content.get(key) is not None), None)
        if content is None:
            raise RecNextError(f"{path} holds no moving average (EMA) of the weights; load it without ema")
    for _ in range(_DEPTH):
        if not isinstance(content, Mapping):
            break
        inner = next((content[key] for key in _WEIGHTS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
            if tensors:
                return tensors
            break
        content = inner
    if isinstance(content, Mapping):
        held = f"a mapping with {', '.join(map(str, list(content)[:5])) or 'nothing'} in it"
    else:
        held = f"a {type(content).__name__}"
    raise RecNextError(f"{path} holds {held}, not a state dict: expected tensors, or {{'model': tensors}}")


def _unwrapped(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of one network, without a prefix that others gave their names.

    Raises:
        RecNextError: there are several networks.
    """
    for first in _FIRST:
        prefixes = {key.removesuffix(first) for key in state if key == first or key.endswith(f".{first}")}
        if prefixes:
            break
    else:  # of another family
        prefix, own = "", [key for key in state if key != "n_averaged"]
        while further := [part for part in _WRAPPERS if own and all(key.startswith(prefix + part) for key in own)]:
            prefix += further[0]
        prefixes = {prefix}
    known = [prefix for prefix in prefixes if all(f"{part}." in _WRAPPERS for part in prefix.split(".")[:-1])]
    if len(prefixes) > 1 and len(known) != 1:
        names = ", ".join(sorted(prefixes))
        raise RecNextError(f"{path} holds several networks, {names}: save the state dict of one of them")
    prefix = known[0] if len(prefixes) > 1 else prefixes.pop()
    others = sorted({key.partition(".")[0] for key in state if not key.startswith(prefix)} - {"n_averaged"})
    if others:
        _LOG.warning(f"{path}: {', '.join(others[:_DEPTH])} left out, no part of the network {prefix.rstrip('.')}")
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _hub_metadata(path: Path) -> Optional[CheckpointMetadata]:
    """What the config.json that timm writes beside hub weights says; None without one."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict) or "architecture" not in config:
        return None
    preparation, arguments = config.get("pretrained_cfg", config), config.get("model_args") or {}
    if not isinstance(preparation, dict) or not isinstance(arguments, dict):
        raise RecNextError(f"{path} holds no mapping as pretrained_cfg or model_args: was it edited by hand?")
    found = {"num_classes": 1000, **preparation, **{k: v for k, v in config.items() if v}}
    known = {key: found[key] for key in _CONFIG if found.get(key) is not None}
    names = found.get("label_names")
    names = list(names.values()) if isinstance(names, dict) else names
    return CheckpointMetadata.from_values(
        {
            **known,
            "model": str(config["architecture"]).partition(".")[0],
            "model_args": {k: v for k, v in arguments.items() if k not in ("num_classes", "in_chans")},
            **({"class_names": names} if names else {}),
        },
        place=f"{path}: ",
    )
