"""Exact rewriting of small resizes for ONNX Runtime: a matrix product, with the addition behind it.

ONNX Runtime keeps maps in its blocked layout through a resize by a whole factor only. RecConv's 4x4 to 7x7 is not
one: it runs as a general Resize and an addition in plain layout, at 30 µs for a map of a few hundred bytes.
"""

from collections.abc import Iterable
from typing import Any, Optional

import torch
import torch.nn.functional as F

LARGEST = 256
"""Pixels of a resized map up to which the product is the faster form."""


def rewrite_small_resizes(proto: Any) -> int:
    """Replaces resizes of small maps by other than whole factors, in place.

    A Resize becomes Reshape, MatMul, Reshape; with an Add of a map of its size as its only consumer, both become one
    Gemm between Reshapes.

    Args:
        proto: an onnx.ModelProto with shapes, fixed but for the batch.

    Returns:
        How many resizes were replaced.
    """
    from onnx import checker, helper, numpy_helper

    graph = proto.graph
    values = [*graph.value_info, *graph.input, *graph.output]
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
    consumers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    made: list[Any] = []
    constants: dict[str, Any] = {}
    replaced: dict[str, list[Any]] = {}  # by the output of the last node replaced
    gone: set[str] = set()

    def reshaped(name: str, shape: Iterable[int], into: str) -> Any:
        key = f"small_resize_shape_{'_'.join(map(str, shape))}"
        constants[key] = torch.tensor(list(shape)).numpy()
        return helper.make_node("Reshape", [name, key], [into])

    for node in graph.node:
        matrix = _matrix(node, shapes)
        if matrix is None:
            continue
        pixels, resized = matrix.shape
        source, output = node.input[0], node.output[0]
        key = f"small_resize_{_mode(node)}_{'_'.join(map(str, shapes[source][2:] + shapes[output][2:]))}"
        constants[key] = matrix.numpy()
        flat = f"{output}_flat"
        nodes = [reshaped(source, (-1, pixels), f"{output}_pixels")]
        add = _addition(consumers.get(output, []), shapes, output)
        if add is None or add.output[0] in replaced:
            add = None
            nodes.append(helper.make_node("MatMul", [f"{output}_pixels", key], [flat]))
        else:
            other = next(name for name in add.input if name != output)
            nodes.append(reshaped(other, (-1, resized), f"{output}_other"))
            nodes.append(helper.make_node("Gemm", [f"{output}_pixels", key, f"{output}_other"], [flat]))
            gone.add(output)
        last = output if add is None else add.output[0]
        nodes.append(reshaped(flat, (-1, *shapes[output][1:]), last))
        replaced[last] = nodes
    for node in graph.node:
        name = node.output[0]
        made.extend(replaced.get(name, [] if name in gone else [node]))
    if replaced:
        del graph.node[:]
        graph.node.extend(made)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        checker.check_model(proto)
    return len(replaced)


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


def _matrix(node: Any, shapes: dict[str, list[int]]) -> Optional[torch.Tensor]:
    """Pixels before by pixels behind, float32, of a resize that is to be replaced."""
    if node.op_type != "Resize":
        return None
    before, behind = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
    if len(before) != 4 or len(behind) != 4 or 0 in (*before[1:], *behind[1:]) or not _mode(node):
        return None
    (height, width), size = before[2:], behind[2:]
    whole = size[0] % height == 0 and size[1] % width == 0
    if whole or size[0] * size[1] > LARGEST or height * width > LARGEST:
        return None
    pixels = torch.eye(height * width).reshape(-1, 1, height, width)
    return F.interpolate(pixels, size=size, mode=_mode(node)).reshape(height * width, -1)


def _addition(nodes: list[Any], shapes: dict[str, list[int]], name: str) -> Optional[Any]:
    """The only consumer, if it adds a map of the same size; both batches are the network's."""
    if len(nodes) != 1 or nodes[0].op_type != "Add" or len(set(nodes[0].input)) != 2:
        return None
    other = next(given for given in nodes[0].input if given != name)
    return nodes[0] if shapes.get(other, [])[1:] == shapes[name][1:] else None
