"""ONNX, for ONNX Runtime on every platform and device, browsers, TensorRT and others."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch
from torch import nn

from recnext.deploy.optimize.lowering import lower
from recnext.deploy.optimize.network import first_line
from recnext.deploy.optimize.onnx_rewriting import rewrite
from recnext.deploy.optimize.program import OPSET
from recnext.deploy.optimize.quiet import quiet
from recnext.errors import RecNextError

from .preprocess import Plain, in_precision, with_preprocess
from .spec import ExportSpec
from .targets import Contents, FileRunner, Port, Target
from .torch_program import program_of

if TYPE_CHECKING:
    import onnx

OPSETS = (18, 23)
"""The first and the last that torch's exporter writes and this package tests."""
_SIDES = ("batch", "height", "width")
_QUANTISED = ("Conv", "Gemm", "MatMul")


class Onnx(Target):
    """Written by torch's exporter from torch.export; int8 as QDQ by ONNX Runtime's static quantisation."""

    name = "onnx"
    runtime = "onnxruntime"
    suffix = ".onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")
    extra = "export"
    choices = ("opset",)
    precisions = ("fp32", "fp16", "int8")
    dynamic = True

    def check(self, spec: ExportSpec) -> None:
        super().check(spec)
        first, last = OPSETS
        if spec.opset is not None and not first <= spec.opset <= last:
            raise RecNextError(f"opset {spec.opset}: expected {first} to {last}, the ones torch's exporter writes")

    def export(self, module: nn.Module, spec: ExportSpec, folder: Path) -> Path:
        import onnx

        proto = onnx_model(module, spec)
        path = self.path(spec, folder)
        proto = _quantised(proto, spec, folder) if spec.precision == "int8" else rewrite(proto)
        onnx.helper.set_model_props(proto, spec.header())
        onnx.checker.check_model(proto, full_check=True)
        path.write_bytes(proto.SerializeToString(deterministic=True))
        return path

    def load(self, path: Path, *, threads: Optional[int] = None) -> FileRunner:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        read(path)  # refuses weights outside of its folder
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own
            raise RecNextError(f"{path} cannot be run by ONNX Runtime: {first_line(error)}") from None
        name = session.get_inputs()[0].name

        def run(x: np.ndarray) -> list[np.ndarray]:
            return list(session.run(None, {name: np.ascontiguousarray(x)}))

        return run

    def contents(self, path: Path) -> Contents:
        proto = read(path)
        return Contents(
            f"ONNX opset {_opset(proto)}, IR {proto.ir_version}",
            tuple(map(_port, proto.graph.input)),
            tuple(map(_port, proto.graph.output)),
            dict(Counter(node.op_type for node in proto.graph.node).most_common()),
        )

    def header(self, path: Path) -> dict[str, str]:
        return {item.key: item.value for item in read(path).metadata_props}


def onnx_model(module: nn.Module, spec: ExportSpec) -> "onnx.ModelProto":
    """The network as the spec says, in float32 or float16, without traces of the machine it was made on.

    A `Plain` network keeps it: OpenVINO's files and int8 start from the same.
    """
    import onnx

    asked = replace(spec, precision="fp16" if spec.precision == "fp16" else "fp32", calibration=())
    programs = module.programs if isinstance(module, Plain) else {}
    if asked not in programs:
        made = _converted(with_preprocess(in_precision(lower(module), spec), spec), spec)
        programs[asked] = made.SerializeToString()
    return onnx.ModelProto.FromString(programs[asked])


def _converted(module: nn.Module, spec: ExportSpec) -> "onnx.ModelProto":
    wanted = spec.opset or OPSET
    with quiet():
        converted = torch.onnx.export(
            program_of(module, spec),
            (),
            dynamo=True,
            opset_version=wanted,
            verbose=False,
            input_names=[spec.input_name],
            output_names=list(spec.outputs),
        )
    assert converted is not None
    proto = converted.model_proto
    if _opset(proto) != wanted:
        raise RecNextError(f"this torch writes opset {_opset(proto)} in place of {wanted}: give another opset")
    _clean(proto, spec)
    return proto


def _quantised(proto: "onnx.ModelProto", spec: ExportSpec, folder: Path) -> "onnx.ModelProto":
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

    source, made = folder / "_float32.onnx", folder / f"{spec.stem}.int8.onnx"
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
            op_types_to_quantize=list(_QUANTISED),
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


def read(path: Path) -> "onnx.ModelProto":
    """A model from a file.

    Raises:
        RecNextError: it is not ONNX, or names weights outside of its folder.
    """
    import onnx

    try:
        proto = onnx.load(path, load_external_data=False)
        _check_weights(proto, path)
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (OSError, RecNextError):
        raise
    except Exception:  # protobuf's, and onnx's where weights lie in another file
        raise RecNextError(f"{path} is not a readable ONNX file, or a damaged one") from None
    if not proto.graph.node:
        raise RecNextError(f"{path} is not a readable ONNX file: it holds no operation")
    return proto


def _check_weights(message: Any, path: Path) -> None:
    """Refuses files outside of the model's folder, at any depth of the model."""
    for field, value in message.ListFields():
        if field.name == "external_data":
            for place in (item.value for item in value if item.key == "location"):
                if not (path.parent / place).resolve().is_relative_to(path.parent.resolve()):
                    raise RecNextError(f"{path} names the file {place!r} outside of its folder: refused")
        elif field.message_type is not None and field.name not in ("metadata_props", "type"):
            repeated = hasattr(value, "add") or hasattr(value, "__iter__")
            for part in value if repeated else (value,):
                _check_weights(part, path)


def _clean(proto: "onnx.ModelProto", spec: ExportSpec) -> None:
    """Names the free dimensions, and removes the exporter's notes: stack traces with paths of the machine."""
    sides = proto.graph.input[0].type.tensor_type.shape.dim
    order = (0, 1, 2) if spec.preprocess else (0, 2, 3)
    names = {sides[place].dim_param: name for place, name in zip(order, _SIDES, strict=True) if sides[place].dim_param}
    words = re.compile("|".join(rf"\b{re.escape(old)}\b" for old in names) or "(?!)")  # without names, nothing
    graph = proto.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = words.sub(lambda match: names[match[0]], side.dim_param)
    for item in (graph, *graph.node, *graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    graph.name = spec.name
    proto.producer_name = "recnext"


def _opset(proto: "onnx.ModelProto") -> int:
    domains: Iterable[Any] = proto.opset_import
    return next((int(item.version) for item in domains if item.domain in ("", "ai.onnx")), 0)


def _port(value: Any) -> Port:
    import onnx

    kind = value.type.tensor_type
    sides = (side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
    return Port(value.name, dtype, tuple(sides))
