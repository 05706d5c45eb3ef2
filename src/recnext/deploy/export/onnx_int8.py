"""int8 for ONNX: QDQ by ONNX Runtime's static quantisation, per channel."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from .spec import ExportSpec

if TYPE_CHECKING:
    import onnx

_OPERATORS = ("Conv", "Gemm", "MatMul")
_FLOAT32 = "_float32.onnx"


def quantised(proto: "onnx.ModelProto", spec: ExportSpec, folder: Path) -> "onnx.ModelProto":
    """Weights in int8 per channel, of 7 bits; activations in uint8 per tensor.

    Processors with AVX2 but without VNNI add two products in 16 bits, which saturate with weights of 8 bits.

    Args:
        proto: in float32.
        spec: with the batches to calibrate on.
        folder: for temporary files, removed in the end.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.remaining: Iterator[np.ndarray] = iter(spec.calibration)

        def get_next(self) -> Optional[dict[str, Any]]:
            batch = next(self.remaining, None)
            return None if batch is None else {spec.input_name: batch}

    source, made = folder / _FLOAT32, folder / f"{spec.stem}.int8.onnx"
    source.write_bytes(proto.SerializeToString())
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser warns on the root logger that the model was not preprocessed
    try:
        quantize_static(
            source,
            made,
            Batches(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
        return onnx.load(made)
    finally:
        root.setLevel(level)
        for path in (source, made):
            path.unlink(missing_ok=True)
