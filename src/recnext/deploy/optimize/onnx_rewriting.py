"""Exact rewritings of an ONNX graph that ONNX Runtime computes faster, in standard operators.

ONNX Runtime takes maps into blocks of channels at a convolution, and what follows stays in them only if every input
of an addition has come out of a convolution, too. A map that was reshaped, from two interleaved ones or from the
products of attention, has not: then the addition, the resize and the trunk of the stage behind run in NCHW, each
between two reorderings. A depthwise 1x1 convolution by one behind the reshaping changes no value and is one.

It also keeps the blocks through a resize by a factor of 2 or 3, but not from 4x4 to 7x7 as in RecConv, which runs as a
general Resize and an addition at 30 µs for a map of a few hundred bytes. A matrix product does both.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    import onnx

BLOCK = 16
"""Channels that a block has at most; only maps of full blocks are kept in them."""
LARGEST = 256
"""Pixels of a resized map up to which the product is the faster form."""


class _Graph:
    """A graph's nodes with the shapes and readers of their values, and what is to replace them."""

    def __init__(self, graph: Any) -> None:
        values = [*graph.value_info, *graph.input, *graph.output]
        self.types = {value.name: value.type.tensor_type for value in values}
        self.shapes = {name: [dim.dim_value for dim in kind.shape.dim] for name, kind in self.types.items()}
        self.nodes = list(graph.node)
        self.makers = {name: node.op_type for node in self.nodes for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.constants: dict[str, np.ndarray] = {}
        self._graph = graph

    def replace(self, replaced: dict[str, list[Any]]) -> int:
        """Puts nodes in place of those whose first output has a name; returns how many those are."""
        from onnx import numpy_helper

        if replaced:
            nodes = [new for node in self.nodes for new in replaced.get(node.output[0], [node])]
            del self._graph.node[:]
            self._graph.node.extend(nodes)
            constants = self.constants.items()
            self._graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants)
        return len(replaced)


def rewrite(proto: "onnx.ModelProto") -> "onnx.ModelProto":
    """Applies both rewritings, in place, and returns the model."""
    keep_blocked(proto)
    rewrite_small_resizes(proto)
    return proto


def keep_blocked(proto: "onnx.ModelProto") -> int:
    """Inserts convolutions by one behind reshaped maps that convolutions or additions to convolutions read, in place.

    Args:
        proto: with shapes; maps in other types than float32 stay as they are.

    Returns:
        How many were inserted.
    """
    from onnx import TensorProto, helper

    graph = _Graph(proto.graph)

    def reads_blocks(node: Any, name: str) -> bool:
        others = [given for given in node.input if given != name]
        if node.op_type == "Add":
            return len(others) == 1 and graph.makers.get(others[0]) == "Conv"
        return node.op_type == "Conv" and node.input[0] == name

    inserted: dict[str, list[Any]] = {}
    for node in graph.nodes:
        name = node.output[0]
        shape = graph.shapes.get(name, [])
        if node.op_type != "Reshape" or len(shape) != 4 or graph.types[name].elem_type != TensorProto.FLOAT:
            continue
        channels, readers = shape[1], graph.readers.get(name, [])
        if channels == 0 or channels % BLOCK or not any(reads_blocks(reader, name) for reader in readers):
            continue
        ones, blocked = f"ones_{channels}", f"{name}_blocked"
        graph.constants[ones] = np.ones((channels, 1, 1, 1), np.float32)
        inserted[name] = [node, helper.make_node("Conv", [name, ones], [blocked], group=channels)]
        for reader in readers:
            for place, given in enumerate(reader.input):
                if given == name and reader.op_type in ("Conv", "Add"):
                    reader.input[place] = blocked
    return graph.replace(inserted)


def rewrite_small_resizes(proto: "onnx.ModelProto") -> int:
    """Replaces resizes of small maps by other than integer factors, in place.

    A Resize becomes Reshape, MatMul, Reshape; with an Add of a map of its size as its only reader, both become one
    Gemm between Reshapes.

    Args:
        proto: with shapes; a map whose height or width is free stays as it is.

    Returns:
        How many resizes were replaced.
    """
    from onnx import helper

    graph = _Graph(proto.graph)
    replaced: dict[str, list[Any]] = {}
    gone: dict[str, list[Any]] = {}

    def reshape(name: str, shape: Sequence[int], into: str) -> Any:
        key = f"small_resize_shape_{'_'.join(map(str, shape))}"
        graph.constants[key] = np.array(shape)
        return helper.make_node("Reshape", [name, key], [into])

    for node in graph.nodes:
        matrix = _matrix(node, graph.shapes)
        if matrix is None:
            continue
        pixels, resized = matrix.shape
        source, output = node.input[0], node.output[0]
        sides = graph.shapes[source][2:] + graph.shapes[output][2:]
        key = f"small_resize_{_mode(node)}_{'_'.join(map(str, sides))}"
        graph.constants[key] = matrix
        flat, given = f"{output}_flat", f"{output}_pixels"
        add = _addition(graph, output)
        if add is None or add.output[0] in replaced:
            product, last = [helper.make_node("MatMul", [given, key], [flat])], output
        else:
            other, last = next(name for name in add.input if name != output), add.output[0]
            product = [reshape(other, (-1, resized), f"{output}_other")]
            product.append(helper.make_node("Gemm", [given, key, f"{output}_other"], [flat]))
            gone[output] = []
        behind = reshape(flat, (-1, *graph.shapes[output][1:]), last)
        replaced[last] = [reshape(source, (-1, pixels), given), *product, behind]
    return graph.replace({**replaced, **gone}) - len(gone)


def _mode(node: Any) -> str:
    """ "bilinear" or "nearest" where the node computes what PyTorch calls so, else nothing."""
    from onnx import helper

    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    mode, position = attributes.get("mode", b"nearest"), attributes.get("coordinate_transformation_mode")
    if mode == b"linear" and position in (b"half_pixel", b"pytorch_half_pixel"):
        return "bilinear"
    if mode == b"nearest" and position == b"asymmetric" and attributes.get("nearest_mode") == b"floor":
        return "nearest"
    return ""


def _matrix(node: Any, shapes: dict[str, list[int]]) -> Optional[np.ndarray]:
    """Pixels before by pixels behind, float32, of a resize that is to be replaced."""
    if node.op_type != "Resize":
        return None
    before, behind = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
    if len(before) != 4 or len(behind) != 4 or 0 in (*before[1:], *behind[1:]) or not _mode(node):
        return None
    (height, width), size = before[2:], behind[2:]
    integer = size[0] % height == 0 and size[1] % width == 0
    if integer or size[0] * size[1] > LARGEST or height * width > LARGEST:
        return None
    pixels = torch.eye(height * width).reshape(-1, 1, height, width)
    return F.interpolate(pixels, size=size, mode=_mode(node)).reshape(height * width, -1).numpy()


def _addition(graph: _Graph, name: str) -> Optional[Any]:
    """The only reader, if it adds a map of the same size; both batches are the network's."""
    nodes = graph.readers.get(name, [])
    if len(nodes) != 1 or nodes[0].op_type != "Add" or len(set(nodes[0].input)) != 2:
        return None
    other = next(given for given in nodes[0].input if given != name)
    return nodes[0] if graph.shapes.get(other, [])[1:] == graph.shapes[name][1:] else None
