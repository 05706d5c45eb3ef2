"""The header of our safetensors files: what a program needs, besides the tensors, to use a checkpoint.

Every value is a string, as safetensors wants; lists and mappings are JSON::

    recnext.model        recnext_m1            timm name of the network
    recnext.model_args   {"drop_path_rate": 0} constructor arguments besides num_classes
    recnext.num_classes  10
    recnext.class_names  ["cat", "dog"]        in the order of the outputs; absent when unknown
    recnext.input_size   [3, 224, 224]         the size it was trained at
    recnext.mean         [0.485, 0.456, 0.406] of pixels in 0..1
    recnext.std          [0.229, 0.224, 0.225]
    recnext.crop_pct     0.875                 share of the resized image that evaluation keeps
    recnext.interpolation bicubic
    recnext.fused        0                     1 when every BatchNorm is folded
    recnext.epoch        29                    absent when not from a training run
    recnext.version      0.1.0                 of this package
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from recnext._version import __version__
from recnext.errors import RecNextError
from recnext.files import write_atomically

_PREFIX = "recnext."
_STRINGS = ("model", "interpolation", "version")
_ABSENT_WHEN_UNKNOWN = ("class_names", "epoch")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class CheckpointMetadata:
    """What the tensors of a checkpoint are, and how images must be prepared for them."""

    model: str
    num_classes: int
    model_args: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    input_size: tuple[int, int, int] = (3, 224, 224)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    fused: bool = False
    epoch: int | None = None
    version: str = __version__

    def to_header(self) -> dict[str, str]:
        """The string mapping that goes into the safetensors file."""
        values = asdict(self)
        values["fused"] = int(self.fused)
        for key in _ABSENT_WHEN_UNKNOWN:
            if values[key] is None:
                del values[key]
        return {
            _PREFIX + key: value if key in _STRINGS else json.dumps(value, ensure_ascii=False)
            for key, value in values.items()
        }

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> "CheckpointMetadata":
        """Reads `to_header`'s mapping; keys of newer versions are left alone.

        Raises:
            RecNextError: a key is missing or does not hold what it should.
        """
        values: dict[str, Any] = {}
        for key in cls.__dataclass_fields__:
            text = header.get(_PREFIX + key)
            if text is None:
                continue
            try:
                value = text if key in _STRINGS else json.loads(text)
            except json.JSONDecodeError:
                raise RecNextError(
                    f"checkpoint header {_PREFIX}{key} is not JSON: {text[:60]!r}; was it edited by hand?"
                ) from None
            values[key] = tuple(value) if isinstance(value, list) else value
        missing = [_PREFIX + key for key in ("model", "num_classes") if key not in values]
        if missing:
            raise RecNextError(f"checkpoint header has no {' and no '.join(missing)}")
        values["fused"] = bool(values.get("fused", 0))
        return cls(**values)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: CheckpointMetadata) -> None:
    """Writes a state dict with its metadata to `path` as safetensors, atomically.

    Tensors may be of any dtype and on any device and keep their order.

    Raises:
        OSError: the file cannot be written; the old one, if any, is still there.
    """
    plain = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
    write_atomically(path, safetensors.torch.save(plain, metadata.to_header()))


def read_metadata(path: Path) -> CheckpointMetadata | None:
    """The metadata of a safetensors file, without reading its tensors; None when it is not one of ours.

    Raises:
        RecNextError: the file is not safetensors, or its header is damaged.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:  # type: ignore[no-untyped-call]
            header = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise RecNextError(f"{path} is not a readable safetensors file: {error}") from None
    return CheckpointMetadata.from_header(header) if _PREFIX + "model" in header else None
