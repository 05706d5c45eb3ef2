"""Core ML (.mlpackage): an mlprogram for iOS 16 and macOS 13 or newer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import torch
from torch import nn

from recnext.deploy.optimize.quiet import silent
from recnext.errors import RecNextError
from recnext.text import to_json

from .coreml_evaluator import CoreMlProgram
from .integer_factors import IntegerFactors
from .preprocess import Preprocessed
from .spec import ExportSpec
from .targets import Contents, FileRunner, Port, Target

COMPRESSIONS = ("int8", "palettised")
PALETTE_BITS = 6
UNPROVED = "program checked, not run on Apple hardware"
_PREFIX = "recnext."
_SINGLE = ("softmax", "matmul", "real_div", "reduce_sum")
"""In float32 even in fp16: probabilities, and the sums of the attention, which overflow in recnext_t."""


class CoreMl(Target):
    """An ML program of fixed batch and size.

    fp16 also computes in float16, as the Neural Engine does, but for the sums of the attention; the recursion's
    levels are then float16 too. int8
    keeps that and stores weights in 8 bits a value (`compression` "int8", by output channel) or as indices into 64
    values a layer ("palettised"); neither needs images.

    With `preprocess` the input is an RGB image, normalised inside, and with class names the file is a Core ML
    classifier: Vision and Xcode show its labels. The proof evaluates the saved program (`coreml_evaluator`).
    """

    name = "coreml"
    suffix = ".mlpackage"
    packages = ("coremltools",)
    extra = "coreml"
    choices = ("compression",)
    calibrated = False
    precisions = ("fp32", "fp16", "int8")
    norms = ("batch_norm",)
    runs_here = False

    def possible(self, spec: ExportSpec) -> ExportSpec:
        spec = super().possible(spec)
        if spec.compression is not None and spec.precision != "int8":
            spec = replace(spec, precision="int8")
        return spec

    def check(self, spec: ExportSpec) -> None:
        super().check(spec)
        if spec.compression is not None and spec.compression not in COMPRESSIONS:
            raise RecNextError(f"compression={spec.compression!r} must be {' or '.join(COMPRESSIONS)}")
        if spec.preprocess and spec.batch != 1:
            raise RecNextError(f"batch={spec.batch}: an image input of coreml takes 1; or leave preprocess out")
        if spec.preprocess and spec.channels not in (1, 3):
            raise RecNextError(f"an image input of coreml has 1 or 3 channels, not {spec.channels}: no preprocess")

    def export(self, module: nn.Module, spec: ExportSpec, folder: Path) -> Path:
        with silent():
            model = _converted(module, spec)
            model.user_defined_metadata.update(spec.header())
            model.short_description = f"{spec.name}, by recnext"
            if spec.precision == "int8":
                model = _compressed(model, spec.compression or "int8")
            path = self.path(spec, folder)
            model.save(str(path))
            _settle(path)
        return path

    def path(self, spec: ExportSpec, folder: Path) -> Path:
        palettised = spec.compression == "palettised"
        return folder / f"{f'{spec.name}_palettised' if palettised else spec.stem}{self.suffix}"

    def unproved(self, spec: ExportSpec) -> str:
        return UNPROVED

    def load(self, path: Path, *, threads: Optional[int] = None) -> FileRunner:
        """An evaluator, to check with: slower than the network in PyTorch."""
        self.require()
        with silent():
            program = CoreMlProgram(path)
        (name,) = program.inputs
        image = program.description.input[0].type.WhichOneof("Type") == "imageType"
        order = [output.name for output in program.description.output]
        if program.description.predictedProbabilitiesName:
            order = [program.description.predictedProbabilitiesName]

        def run(x: np.ndarray) -> list[np.ndarray]:
            if image:
                x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).astype(np.float32)
            outputs = program(**{name: x})
            return [outputs[output] for output in order]

        return run

    def contents(self, path: Path) -> Contents:
        self.require()
        with silent():
            program = CoreMlProgram(path)
        return Contents(
            f"Core ML mlprogram, specification {program.version}",
            tuple(_port(feature) for feature in program.description.input),
            tuple(_port(feature) for feature in program.description.output),
            program.operators,
        )

    def header(self, path: Path) -> dict[str, str]:
        self.require()
        with silent():
            metadata = CoreMlProgram(path).metadata
        return {key: value for key, value in metadata.items() if key.startswith(_PREFIX)}


def _converted(module: nn.Module, spec: ExportSpec) -> Any:
    import coremltools as ct

    shape = (spec.batch, spec.channels, *spec.size)
    network = Preprocessed(module, spec, channels_last=False).eval() if spec.preprocess else module
    with IntegerFactors(), torch.no_grad():
        program = torch.export.export(network, (torch.zeros(shape),)).run_decompositions({})
    _drop_aliases(program)
    half = spec.precision != "fp32"
    dtype = np.float16 if half else np.float32
    given: Any = ct.TensorType(name="image", shape=shape, dtype=dtype)
    if spec.preprocess:
        layout = ct.colorlayout.RGB if spec.channels == 3 else ct.colorlayout.GRAYSCALE
        given = ct.ImageType(name="image", shape=shape, color_layout=layout)
    kind = np.float32 if spec.preprocess and spec.classifier else dtype
    options: dict[str, Any] = {}
    if spec.preprocess and spec.classifier and spec.class_names is not None:
        labels = unique_names(spec.class_names)
        options["classifier_config"] = ct.ClassifierConfig(labels, predicted_feature_name="label")
    return ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS16,
        compute_precision=half_precision() if half else ct.precision.FLOAT32,
        inputs=[given],
        outputs=[ct.TensorType(name=name, dtype=kind) for name in spec.outputs],
        skip_model_load=True,
        **options,
    )


def half_precision() -> Any:
    """Float16 for the converter, but for the operations that would overflow."""
    import coremltools as ct

    return ct.transform.FP16ComputePrecision(op_selector=lambda op: op.op_type not in _SINGLE)


def _settle(package: Path) -> None:
    """Takes out what differs between equal packages, random identifiers and the order of metadata, and notes."""
    from coremltools.models.utils import load_spec

    manifest = package / "Manifest.json"
    text = manifest.read_text(encoding="utf-8")
    for identifier, entry in json.loads(text)["itemInfoEntries"].items():
        text = text.replace(identifier, str(uuid5(NAMESPACE_URL, entry["path"])).upper())
    manifest.write_text(to_json(json.loads(text), indent=4), encoding="utf-8")
    for notes in package.rglob("executorch_debug_handle_mapping.json"):  # no part of the program
        notes.unlink()
    program = next(package.rglob("*.mlmodel"))
    program.write_bytes(load_spec(str(program)).SerializeToString(deterministic=True))


def _drop_aliases(program: torch.export.ExportedProgram) -> None:
    """Takes out the nodes that only rename a value (of a rotary embedding), which coremltools does not know."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _compressed(model: Any, compression: str) -> Any:
    import coremltools.optimize.coreml as optimize

    if compression == "int8":
        kind = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8")
        return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=kind))
    palette = optimize.OpPalettizerConfig(mode="kmeans", nbits=PALETTE_BITS)
    return optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=palette))


def unique_names(names: tuple[str, ...]) -> list[str]:
    """Class names as keys: a name that came before gets its index, as in "crane (517)"."""
    seen: set[str] = set()
    unique = []
    for index, name in enumerate(names):
        key = f"{name} ({index})" if name in seen else name
        seen.add(key)
        unique.append(key)
    return unique


def _port(feature: Any) -> Port:
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        image = feature.type.imageType
        space = image.DESCRIPTOR.enum_types_by_name["ColorSpace"].values_by_number[image.colorSpace].name
        return Port(feature.name, f"{space} image", (image.height, image.width))
    if kind == "multiArrayType":
        array = feature.type.multiArrayType
        dtype = array.DESCRIPTOR.enum_types_by_name["ArrayDataType"].values_by_number[array.dataType].name
        return Port(feature.name, dtype.lower(), tuple(array.shape))
    return Port(feature.name, kind.removesuffix("Type"), ())
