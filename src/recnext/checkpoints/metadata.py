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
import reprlib
from collections.abc import Callable, Mapping
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
_LARGEST = 65_536  # pixels of a side, and any integer among the arguments: a file must not ask for all memory
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", "random")


def _is_integer(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_number(value: Any, *, above: float) -> bool:
    return type(value) in (int, float) and above < value < 1e6


def _are_numbers(value: Any, *, above: float) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(_is_number(one, above=above) for one in value)


def _are_arguments(value: Any, *, depth: int = 8) -> bool:
    """Whether it is plain values, no number among them beyond what a network can be built with."""
    if isinstance(value, (dict, list)):
        parts = [part for key, part in value.items() if key != "category_ids"] if isinstance(value, dict) else value
        return depth > 0 and all(_are_arguments(part, depth=depth - 1) for part in parts)
    return type(value) not in (int, float) or -_LARGEST <= value <= _LARGEST


_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (lambda value: isinstance(value, str), "the name of a network"),
    "num_classes": (lambda value: _is_integer(value, 0, 1_000_000), "an integer from 0 to 1000000"),
    "model_args": (
        lambda value: isinstance(value, dict) and _are_arguments(value),
        f"a mapping of constructor arguments, numbers to {_LARGEST}",
    ),
    "class_names": (
        lambda value: value is None or (isinstance(value, tuple) and all(isinstance(name, str) for name in value)),
        "a list of text",
    ),
    "input_size": (
        lambda value: isinstance(value, tuple) and len(value) == 3 and all(_is_integer(n, 1, _LARGEST) for n in value),
        f"three integers from 1 to {_LARGEST}",
    ),
    "mean": (lambda value: _are_numbers(value, above=-1e6), "a list of numbers"),
    "std": (lambda value: _are_numbers(value, above=0), "a list of numbers above 0"),
    "crop_pct": (lambda value: _is_number(value, above=0), "a number above 0"),
    "interpolation": (lambda value: value in _INTERPOLATIONS, f"one of {', '.join(_INTERPOLATIONS)}"),
    "fused": (lambda value: value in (0, 1), "0 or 1"),
    "epoch": (lambda value: value is None or _is_integer(value, 0, 2**62), "an integer from 0"),
    "version": (lambda value: isinstance(value, str), "text"),
}


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
                values[key] = text if key in _STRINGS else json.loads(text)
            except (ValueError, RecursionError):
                raise RecNextError(
                    f"checkpoint header {_PREFIX}{key} is not JSON: {text[:60]!r}; was it edited by hand?"
                ) from None
        return cls.from_values(values, place=f"checkpoint header {_PREFIX}")

    @classmethod
    def from_values(cls, values: Mapping[str, Any], *, place: str) -> "CheckpointMetadata":
        """Checks what a file says, lists as of JSON.

        Raises:
            RecNextError: a value is missing or not what it should be; `place` is where its name stands.
        """
        if missing := [place + key for key in ("model", "num_classes") if key not in values]:
            raise RecNextError(f"there is no {' and no '.join(missing)}")
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        for key, value in known.items():
            fits, expected = _EXPECTED[key]
            if not fits(value):
                raise RecNextError(f"{place}{key} is {reprlib.repr(values[key])}: expected {expected}")
        known["fused"] = bool(known.get("fused", 0))
        return cls(**known)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: CheckpointMetadata) -> None:
    """Writes a state dict with its metadata to `path` as safetensors, atomically.

    Tensors may be of any dtype and on any device. Equal tensors and metadata make equal files.

    Raises:
        OSError: the file cannot be written; the old one, if any, is still there.
    """
    plain = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
    content = safetensors.torch.save(plain)
    end = 8 + int.from_bytes(content[:8], "little")
    known = {"format": "pt", **metadata.to_header()}  # safetensors itself would write them in a random order
    header = {"__metadata__": dict(sorted(known.items())), **json.loads(content[8:end])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    write_atomically(path, b"".join((len(text).to_bytes(8, "little"), text, content[end:])))


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
