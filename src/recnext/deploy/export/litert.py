"""LiteRT (.tflite), once TensorFlow Lite: for Android, and other small devices."""

import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import nn

from recnext.deploy.optimize.network import first_line
from recnext.deploy.optimize.quiet import silent
from recnext.errors import MissingExtraError, RecNextError

from .integer_factors import IntegerFactors
from .merged_heads import merge_heads
from .preprocess import with_preprocess
from .spec import ExportSpec
from .targets import Contents, FileRunner, Port, Target

_HEADER = "recnext"  # the name of our metadata in the file
_IDENTIFIER = b"TFL3"


class LiteRt(Target):
    """A model of fixed batch and size.

    fp16 stores weights in float16 and computes as the device likes: GPUs in float16, this library's CPU kernels in
    float32. Nearest resizing to odd sizes is written as doubling and a crop: the converter's own form of it takes
    other neighbours. So are the products of linear attention with heads merged into the batch: of one head they are
    not converted otherwise.
    """

    name = "litert"
    suffix = ".tflite"
    packages = ("litert_torch", "ai_edge_litert")
    packages_to_run = ("ai_edge_litert",)
    extra = "litert"
    precisions = ("fp32", "fp16")

    def export(self, module: nn.Module, spec: ExportSpec, folder: Path) -> Path:
        with silent():
            import litert_torch

            example = {spec.input_name: torch.from_numpy(spec.example())}
            with IntegerFactors(), torch.no_grad():
                made = litert_torch.convert(with_preprocess(merge_heads(module), spec).eval(), sample_kwargs=example)
            data = _with_header(made.model_content(), spec.header())
            if spec.precision == "fp16":
                data = _half(data)
        path = self.path(spec, folder)
        path.write_bytes(data)
        return path

    def load(self, path: Path, *, threads: Optional[int] = None) -> FileRunner:
        interpreter = _interpreter(path, threads)
        (given,) = interpreter.get_input_details()
        signature = interpreter.get_signature_runner()
        found = signature.get_output_details()
        outputs = [found[name]["index"] for name in sorted(found, key=_number)]

        def run(x: np.ndarray) -> list[np.ndarray]:
            if tuple(x.shape) != tuple(given["shape"]):
                raise RecNextError(f"{path} takes {tuple(map(int, given['shape']))}, not {tuple(x.shape)}")
            interpreter.set_tensor(given["index"], np.ascontiguousarray(x))
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in outputs]

        return run

    def contents(self, path: Path) -> Contents:
        model = _model(path)
        graph = model.subgraphs[0]
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
        operators = Counter(_operator(codes[node.opcodeIndex]) for node in graph.operators)
        signature = model.signatureDefs[0]
        return Contents(
            f"LiteRT model, schema {model.version}",
            tuple(_port(item, graph) for item in signature.inputs),
            tuple(_port(item, graph) for item in sorted(signature.outputs, key=lambda item: _number(item.name))),
            dict(operators.most_common()),
        )

    def header(self, path: Path) -> dict[str, str]:
        model = _model(path)
        for item in model.metadata or ():
            if _text(item.name) == _HEADER:
                buffer = model.buffers[item.buffer]
                if buffer.offset > 1:  # the quantizer puts buffers behind the tables
                    return dict(json.loads(path.read_bytes()[buffer.offset : buffer.offset + buffer.size]))
                return dict(json.loads(bytes(buffer.data)))
        return {}


def _half(data: bytes) -> bytes:
    """Weights in float16."""
    from ai_edge_quantizer import qtyping, quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    made = quantizer.Quantizer(bytearray(data))
    made.update_quantization_recipe(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=weights,
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=AlgorithmName.FLOAT_CASTING,
    )
    return bytes(made.quantize(enable_progress_bar=False).quantized_model)


def _with_header(data: bytes, header: dict[str, str]) -> bytes:
    """The model with our metadata, as JSON, under a name of its own."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    text = schema.BufferT()
    text.data = np.frombuffer(json.dumps(header, ensure_ascii=False).encode(), np.uint8)
    item = schema.MetadataT()
    item.name, item.buffer = _HEADER, len(model.buffers)
    model.buffers.append(text)
    model.metadata = [*(model.metadata or ()), item]
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _interpreter(path: Path, threads: Optional[int]) -> Any:
    _require_runtime()
    with silent():
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise RecNextError(f"{path} is not a readable LiteRT model: {first_line(error)}") from None
    return interpreter


def _model(path: Path) -> Any:
    """The file as Python objects."""
    _require_runtime()
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    if data[4:8] != _IDENTIFIER:
        raise RecNextError(f"{path} is not a readable LiteRT model: it does not say {_IDENTIFIER.decode()}")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
    except Exception as error:  # offsets that lead anywhere
        raise RecNextError(f"{path} is not a readable LiteRT model, or a damaged one: {first_line(error)}") from None
    if not model.signatureDefs:
        raise RecNextError(f"{path} names no inputs and outputs: convert it again, with a signature")
    return model


def _require_runtime() -> None:
    if find_spec("ai_edge_litert") is None:
        raise MissingExtraError("ai_edge_litert", LiteRt.extra, "running .tflite files")


def _operator(code: int) -> str:
    from ai_edge_litert import schema_py_generated as schema

    return next((name for name, value in vars(schema.BuiltinOperator).items() if value == code), f"operator {code}")


def _port(item: Any, graph: Any) -> Port:
    from ai_edge_litert import schema_py_generated as schema

    tensor = graph.tensors[item.tensorIndex]
    kinds = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    return Port(_text(item.name), kinds[tensor.type], tuple(map(int, tensor.shape)))


def _number(name: Any) -> int:
    """Of output_0, output_1, ...: in order, also past ten. 0 for other names, which others' files have."""
    last = _text(name).rpartition("_")[2]
    return int(last) if last.isdecimal() else 0


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
