"""Backbone and pyramid, the part of a detector that a graph can hold, as ONNX.

What follows them, proposals and their suppression, has sizes that depend on the image's content and stays in PyTorch.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from recnext.deploy.optimize.export import OPSET, quiet
from recnext.deploy.optimize.outputs import relative_error
from recnext.errors import MissingExtraError, RecNextError
from recnext.files import write_atomically
from recnext.nn.fusion import fuse
from recnext.tasks.detection.model import Detector

_STRIDE = 32
TOLERANCE = 1e-3
"""Largest difference over a map's spread that passes."""


class Pyramid(nn.Module):
    """Normalised images (N, 3, H, W) to the maps of all levels, finest first.

    Args:
        model: its backbone is copied and folded.
    """

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.backbone = fuse(model.backbone).float().cpu()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images).values())


def export_pyramid(model: Detector, path: Path, *, size: tuple[int, int] = (800, 1344)) -> float:
    """Writes backbone and pyramid as an ONNX file for images of one size and any batch, and compares the two.

    Inputs are named ``images``, outputs ``level0`` (stride 4) to ``level4`` (stride 64).

    Args:
        model: of `load` or `create`.
        path: of the file.
        size: height and width, multiples of 32 as the detector pads them.

    Returns:
        The largest difference from PyTorch over the spread of a map.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        RecNextError: a size that is no multiple of 32, or the file computes something else; then it is not left.
    """
    if any(side < _STRIDE or side % _STRIDE for side in size):
        raise RecNextError(f"size {size[0]}x{size[1]}: expected multiples of {_STRIDE}, as the detector pads images")
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtraError("onnx, onnxscript or onnxruntime", "onnx", "export to ONNX") from None
    pyramid = Pyramid(model).eval()
    example = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    names = [f"level{level}" for level in range(len(model.backbone.strides))]
    with quiet(), torch.no_grad():
        program = torch.export.export(pyramid, (example,), dynamic_shapes=({0: Dim("batch")},))
        converted = torch.onnx.export(
            program, (), dynamo=True, opset_version=OPSET, verbose=False, input_names=["images"], output_names=names
        )
        expected = pyramid(example)
    assert converted is not None
    content = converted.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = session.run(names, {"images": example.numpy()})
    error = relative_error([torch.from_numpy(np.asarray(output)) for output in outputs], expected)
    if not error <= TOLERANCE:
        raise RecNextError(f"the ONNX program differs from PyTorch by {error:.1e} of a map's spread: not written")
    write_atomically(path, content)
    return error
