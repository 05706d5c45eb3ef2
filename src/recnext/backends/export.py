"""The network as a program for a runtime: torch.export with any batch size, then ONNX or OpenVINO's form."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from torch.export import Dim, ExportedProgram

from .network import Network

OPSET = 20  # the first with Gelu


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the exporters' progress and warnings to themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def exported(network: Network, image: tuple[int, int, int]) -> ExportedProgram:
    """Exports the lowered network for images (C, H, W) and any batch."""
    if image not in network.programs:
        example = torch.zeros(2, *image)  # a batch of 1 would be taken as a constant
        with quiet(), torch.inference_mode(False), torch.no_grad():
            network.programs[image] = torch.export.export(
                network.lowered(), (example,), dynamic_shapes=({0: Dim("batch")},)
            )
    return network.programs[image]
