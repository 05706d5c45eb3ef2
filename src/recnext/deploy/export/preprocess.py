"""What every format may hold around the network: pixels in, probabilities out, float16, outputs as a plain tuple."""

from collections.abc import Mapping
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from .spec import ExportSpec

Outputs = Union[Tensor, tuple[Tensor, ...]]


class Plain(nn.Module):
    """A network whose lists or mappings of maps become a tuple, which every exporter takes.

    Args:
        network: any.
        programs: ONNX programs made of it before, by spec; targets that start from the same one share them.
    """

    def __init__(self, network: nn.Module, programs: Optional[dict[ExportSpec, bytes]] = None) -> None:
        super().__init__()
        self.network = network
        self.programs = {} if programs is None else programs

    def forward(self, image: Tensor) -> Outputs:
        return plain(self.network(image))


class Preprocessed(nn.Module):
    """A network that takes pixels.

    Subtraction, then multiplication: the reverse would be fused into one BatchNorm by Core ML's converter.

    Args:
        network: normalised float32 (N, C, H, W) to logits or maps.
        spec: holds mean and std; a classifier's logits become probabilities.
        channels_last: whether the pixels' layout is (N, H, W, C), as a decoder gives it.

    Shape:
        0..255, (N, H, W, C) or (N, C, H, W), to (N, classes), or to the network's maps.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, spec: ExportSpec, *, channels_last: bool = True) -> None:
        super().__init__()
        self.network = network
        self.classifier = spec.classifier
        self.channels_last = channels_last
        self.register_buffer("mean", 255 * torch.tensor(spec.mean).view(1, -1, 1, 1))
        self.register_buffer("scale", 1 / (255 * torch.tensor(spec.std).view(1, -1, 1, 1)))

    def forward(self, pixels: Tensor) -> Outputs:
        image = pixels.permute(0, 3, 1, 2).float() if self.channels_last else pixels
        outputs: Outputs = self.network((image - self.mean) * self.scale)
        return outputs.softmax(1) if self.classifier and isinstance(outputs, Tensor) else outputs


class InHalf(nn.Module):
    """A network in float16 that takes and gives float32.

    RecConv's levels and the attention stay in float32, where float16 would overflow: the network's own rule for
    float16, of which the exported file is a copy.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, image: Tensor) -> Outputs:
        outputs = self.network(image.half())
        return outputs.float() if isinstance(outputs, Tensor) else tuple(part.float() for part in outputs)


def with_preprocess(network: nn.Module, spec: ExportSpec) -> nn.Module:
    """The network as the spec's file computes it: itself, or with pixels in and probabilities out."""
    return Preprocessed(network, spec).eval() if spec.preprocess else network


def in_precision(network: nn.Module, spec: ExportSpec) -> nn.Module:
    """The network with the weights the spec asks for; it is changed. int8 comes later, from float32."""
    return InHalf(network).eval() if spec.precision == "fp16" else network


def plain(outputs: Any) -> Outputs:
    """A tensor as it is; a list or mapping of them as a tuple."""
    if isinstance(outputs, Tensor):
        return outputs
    return tuple(outputs.values() if isinstance(outputs, Mapping) else outputs)
