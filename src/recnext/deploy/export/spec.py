"""What is asked of an export, the same for every format."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np

from recnext._version import __version__
from recnext.checkpoints.metadata import IMAGENET_MEAN, IMAGENET_STD
from recnext.errors import RecNextError
from recnext.precision import parse_precision

PRECISIONS = ("fp32", "fp16", "int8")
SMALLEST = 32  # pixels a side: the networks' stride
_PREFIX = "recnext."


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """One file to make.

    The file takes float32 (N, C, H, W), normalised, and gives logits or maps; with `preprocess` it takes uint8
    (N, H, W, C) pixels and gives probabilities, or maps.
    """

    name: str = "network"
    """Of the network: the file's name without its suffix, but for the precision."""
    size: tuple[int, int] = (224, 224)
    """Height and width in pixels: the only ones of a static file, the example of a dynamic one."""
    batch: int = 1
    """Images at once, in a static file."""
    channels: int = 3
    dynamic_batch: bool = True
    """Any number of images, where the format can."""
    dynamic_size: bool = True
    """Any height and width too, where the format can; needs `dynamic_batch`."""
    precision: str = "fp32"
    classifier: bool = True
    """One output (N, classes); otherwise maps."""
    preprocess: bool = False
    """uint8 pixels in, probabilities out."""
    class_names: Optional[tuple[str, ...]] = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Of pixels in 0..1."""
    std: tuple[float, ...] = IMAGENET_STD
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    outputs: tuple[str, ...] = ("logits",)
    """Names of the outputs, in order."""
    opset: Optional[int] = None
    """Of ONNX; None takes the target's."""
    compression: Optional[str] = None
    """Of Core ML's weights: "int8" or "palettised"."""
    delegate: str = "xnnpack"
    """Of ExecuTorch: "xnnpack" or "coreml"."""
    calibration: Sequence[np.ndarray] = field(default=(), repr=False)
    """Batches in the form of the file's input, for int8."""

    def __post_init__(self) -> None:
        if not self.name or self.name != Path(self.name).name or self.name.startswith("."):
            raise RecNextError(
                f"the file's name {self.name!r}: expected a plain name, such as mine; --output has folders"
            )
        object.__setattr__(self, "precision", parse_precision(self.precision, choices=PRECISIONS))
        if min(self.size) < SMALLEST:
            raise RecNextError(f"size={self.size}: the networks take {SMALLEST} pixels a side or more")
        if self.batch < 1:
            raise RecNextError(f"batch={self.batch} must be 1 or more")
        if self.dynamic_size and not self.dynamic_batch:
            raise RecNextError("dynamic_size needs dynamic_batch: a file takes any size with any batch, or neither")

    @property
    def stem(self) -> str:
        """The file's name without suffix."""
        return self.name if self.precision == "fp32" else f"{self.name}_{self.precision}"

    @property
    def input_name(self) -> str:
        """`image` normalised, or `pixels`."""
        return "pixels" if self.preprocess else "image"

    def shape(self, batch: Optional[int] = None, size: Optional[tuple[int, int]] = None) -> tuple[int, int, int, int]:
        """Of the file's input, for a batch and size; by default the spec's."""
        height, width = size or self.size
        n = batch or self.batch
        return (n, height, width, self.channels) if self.preprocess else (n, self.channels, height, width)

    def example(self, batch: Optional[int] = None, size: Optional[tuple[int, int]] = None) -> np.ndarray:
        """Noise in the form of the file's input, always the same for a shape."""
        rng = np.random.default_rng(0)
        shape = self.shape(batch, size)
        if self.preprocess:
            return rng.integers(0, 256, shape, dtype=np.uint8)
        return rng.standard_normal(shape, dtype=np.float32)

    def header(self) -> dict[str, str]:
        """What travels inside the file: the keys of our safetensors header that hold, and those of an export."""
        values = {
            "class_names": self.class_names,
            "input_size": (self.channels, *self.size),
            "mean": self.mean,
            "std": self.std,
            "crop_pct": self.crop_pct,
            "classifier": self.classifier,
            "preprocess": self.preprocess,
            "outputs": self.outputs,
        }
        texts = {"model": self.name, "interpolation": self.interpolation, "precision": self.precision}
        texts["version"] = __version__
        known = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items() if value is not None}
        return {_PREFIX + key: value for key, value in sorted({**texts, **known}.items())}
