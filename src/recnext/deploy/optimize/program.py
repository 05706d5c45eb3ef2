"""The network as a program for the runtimes: torch.export with any batch size, then ONNX."""

import torch
from torch.export import Dim

from .network import Network
from .quiet import quiet

OPSET = 20  # the first with Gelu
SIZES = 8
"""Image sizes whose programs are kept in memory."""


def onnx_program(network: Network, image: tuple[int, int, int]) -> dict[str, bytes]:
    """The lowered network for images (C, H, W) and any batch, as ONNX.

    Returns:
        "model.onnx", and "batch": the name of the batch dimension in it.
    """
    if image not in network.programs:
        example = torch.zeros(2, *image)  # a batch of 1 would be taken as a constant
        with quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.export.export(network.lowered(), (example,), dynamic_shapes=({0: Dim("batch")},))
            converted = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, verbose=False)
        assert converted is not None
        proto = converted.model_proto
        batch = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
        while len(network.programs) >= SIZES:
            del network.programs[next(iter(network.programs))]
        network.programs[image] = {"model.onnx": proto.SerializeToString(), "batch": batch.encode()}
    return network.programs[image]
