"""What every format may hold around the network: pixels in, probabilities out, and outputs as a plain tuple."""

from collections.abc import Mapping
from typing import Any, Union

import torch
from torch import Tensor, nn

from .spec import ExportSpec

Outputs = Union[Tensor, tuple[Tensor, ...]]


class Plain(nn.Module):
    """A network whose lists or mappings of maps become a tuple, which every exporter takes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Outputs:
        return plain(self.network(image))


class Preprocessed(nn.Module):
    """A network that takes pixels.

    Args:
        network: normalised float32 (N, C, H, W) to logits or maps.
        spec: holds mean and std; a classifier's logits become probabilities.

    Shape:
        uint8 (N, H, W, C) to (N, classes), or to the network's maps.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: ExportSpec) -> None:
        super().__init__()
        self.network = network
        self.classifier = spec.classifier
        self.register_buffer("mean", 255 * torch.tensor(spec.mean).view(1, -1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(spec.std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Outputs:
        image = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        outputs = self.network(image)
        return outputs.softmax(1) if self.classifier else outputs


def with_preprocess(network: nn.Module, spec: ExportSpec) -> nn.Module:
    """The network as the spec's file computes it: itself, or with pixels in and probabilities out."""
    return Preprocessed(network, spec).eval() if spec.preprocess else network


def plain(outputs: Any) -> Outputs:
    """A tensor as it is; a list or mapping of them as a tuple."""
    if isinstance(outputs, Tensor):
        return outputs
    return tuple(outputs.values() if isinstance(outputs, Mapping) else outputs)
