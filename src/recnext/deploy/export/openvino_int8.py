"""int8 for OpenVINO, by NNCF's post-training quantisation of the OpenVINO model."""

import logging
import os
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from typing import TYPE_CHECKING

from recnext.deploy.optimize.open_vino import apart
from recnext.errors import MissingExtraError

from .spec import ExportSpec

if TYPE_CHECKING:
    import openvino


def require_nncf() -> None:
    """Raises MissingExtraError where NNCF is not installed."""
    if find_spec("nncf") is None:
        raise MissingExtraError("nncf", "export", "int8 for openvino")


def quantised(model: "openvino.Model", spec: ExportSpec) -> "openvino.Model":
    """Weights and activations in int8, symmetric, with the treatment of attention that NNCF has for transformers.

    All weights take half of their range, not those of the first layer only: processors with AVX2 but without VNNI
    add two products in 16 bits, which saturate otherwise: it costs points of accuracy.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    logging.getLogger("nncf").setLevel(logging.ERROR)
    with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        return apart(
            nncf.quantize,
            model,
            nncf.Dataset(list(spec.calibration)),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(spec.calibration),
            advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
        )
