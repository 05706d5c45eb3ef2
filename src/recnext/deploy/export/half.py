"""Float16 weights behind float32 inputs and outputs."""

import torch
from torch import nn

from .preprocess import Outputs
from .spec import ExportSpec


class InHalf(nn.Module):
    """A network in float16 that takes and gives float32.

    RecConv's levels and the attention stay in float32, where float16 would overflow: the network's own rule for
    float16, of which the exported file is a copy.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, image: torch.Tensor) -> Outputs:
        outputs = self.network(image.half())
        return outputs.float() if isinstance(outputs, torch.Tensor) else tuple(part.float() for part in outputs)


def in_precision(network: nn.Module, spec: ExportSpec) -> nn.Module:
    """The network with the weights the spec asks for; it is changed. int8 comes later, from float32."""
    return InHalf(network).eval() if spec.precision == "fp16" else network
