"""OpenVINO's IR (.xml with .bin), for Intel and ARM processors."""

import json
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from torch import nn

from recnext.deploy.optimize.open_vino import compile_model, in_own_thread
from recnext.deploy.optimize.quiet import silent
from recnext.errors import MissingExtraError, RecNextError

from .onnx_file import Onnx, onnx_model
from .spec import ExportSpec
from .targets import Contents, FileRunner, Port, Target

if TYPE_CHECKING:
    import openvino

_RT_INFO = "recnext"


class OpenVinoFile(Target):
    """Converted from ONNX, which leaves less shape arithmetic than OpenVINO's own converter from torch.

    fp16 stores the weights in half; OpenVINO computes in what the processor is best at. int8 is NNCF's.
    """

    name = "openvino"
    suffix = ".xml"
    packages = ("openvino", "onnx", "onnxscript")
    extra = "export"
    choices = ("opset",)
    precisions = ("fp32", "fp16", "int8")
    dynamic = True
    norms = ("BatchNormInference",)

    def check(self, spec: ExportSpec) -> None:
        super().check(spec)
        Onnx().check(spec)
        if spec.precision == "int8" and find_spec("nncf") is None:
            raise MissingExtraError("nncf", "export", "int8 for openvino")

    def export(self, module: nn.Module, spec: ExportSpec, folder: Path) -> Path:
        import openvino

        # Half weights are OpenVINO's own doing: the program itself stays in float32.
        proto = onnx_model(module, replace(spec, precision="fp32"))
        model = openvino.Core().read_model(proto.SerializeToString())
        for port, name in zip(model.outputs, spec.outputs, strict=True):
            port.get_tensor().set_names({name})
        if spec.precision == "int8":
            model = _quantised(model, spec)
        model.set_rt_info(json.dumps(spec.header(), ensure_ascii=False), [_RT_INFO])
        for index, node in enumerate(model.get_ordered_ops()):
            if node.get_friendly_name() == node.get_name():  # counted since the process began
                node.set_friendly_name(f"{node.get_type_name()}.{index}")
        path = self.path(spec, folder)
        openvino.save_model(model, path, compress_to_fp16=spec.precision == "fp16")
        return path

    def load(self, path: Path, *, threads: Optional[int] = None) -> FileRunner:
        import openvino

        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = compile_model(openvino.Core(), read(path), **settings)
        request = compiled.create_infer_request()

        def run(x: np.ndarray) -> list[np.ndarray]:
            found = request.infer([np.ascontiguousarray(x)])
            return [np.array(found[port]) for port in compiled.outputs]  # the request reuses its memory

        return run

    def contents(self, path: Path) -> Contents:
        model = read(path)
        operators = Counter(node.get_type_name() for node in model.get_ordered_ops())
        for plumbing in ("Parameter", "Result", "Constant"):
            operators.pop(plumbing, None)
        return Contents(
            f"OpenVINO IR {_version(path)}",
            tuple(map(_port, model.inputs)),
            tuple(map(_port, model.outputs)),
            dict(operators.most_common()),
        )

    def header(self, path: Path) -> dict[str, str]:
        model = read(path)
        return dict(json.loads(model.get_rt_info([_RT_INFO]).astype(str))) if model.has_rt_info([_RT_INFO]) else {}


def read(path: Path) -> "openvino.Model":
    """A model from its .xml, with the .bin of the same folder.

    Raises:
        RecNextError: one of the two is missing or damaged.
    """
    import openvino

    weights = next((item for item in map(path.with_suffix, (".bin", ".BIN")) if item.is_file()), None)
    if weights is None:
        raise RecNextError(f"{path} has no weights: {path.with_suffix('.bin').name} must lie in the same folder")
    try:
        return openvino.Core().read_model(path, weights)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["unknown"])[-1].strip()
        raise RecNextError(f"{path} is not a readable OpenVINO model: {reason}") from None


def _quantised(model: "openvino.Model", spec: ExportSpec) -> "openvino.Model":
    """Weights and activations in int8, symmetric, with the treatment of attention that NNCF has for transformers.

    All weights take half of their range, not those of the first layer only: processors with AVX2 but without VNNI
    add two products in 16 bits, which saturate otherwise: it costs points of accuracy.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    with silent():
        return in_own_thread(
            nncf.quantize,
            model,
            nncf.Dataset(list(spec.calibration)),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(spec.calibration),
            advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
        )


def _version(path: Path) -> str:
    from xml.etree import ElementTree

    _, root = next(ElementTree.iterparse(path, events=("start",)))
    return root.get("version", "?")


def _port(port: Any) -> Port:
    shape = port.get_partial_shape()
    sides = (side.get_length() if side.is_static else None for side in shape)
    return Port(port.get_any_name(), port.get_element_type().to_dtype().name, tuple(sides))
