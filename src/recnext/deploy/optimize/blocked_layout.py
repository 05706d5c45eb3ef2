"""Rewriting that keeps ONNX Runtime in its blocked layout.

ONNX Runtime takes maps into blocks of channels at a convolution, and what follows stays in them only if every input
of an addition has come out of a convolution, too. A map that was reshaped, from two interleaved ones or from the
products of attention, has not: then the addition, the resize and the trunk of the whole stage behind run in NCHW,
each between two reorderings. A depthwise 1x1 convolution by one behind the reshaping changes no value and is one.
"""

from typing import Any

BLOCK = 16
"""Channels that a block has at most; only whole blocks are kept."""


def keep_blocked(proto: Any) -> int:
    """Inserts convolutions by one behind reshaped maps that convolutions or additions to convolutions read, in place.

    Args:
        proto: an onnx.ModelProto in float32, with shapes.

    Returns:
        How many were inserted.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    types = {value.name: value.type.tensor_type for value in [*graph.value_info, *graph.input, *graph.output]}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def convolved(node: Any, name: str) -> bool:
        others = [given for given in node.input if given != name]
        return node.op_type == "Add" and len(others) == 1 and _type(makers.get(others[0])) == "Conv"

    nodes, weights = [], {}
    for node in graph.node:
        nodes.append(node)
        kind = types.get(node.output[0])
        if node.op_type != "Reshape" or kind is None:
            continue
        dims = [dim.dim_value for dim in kind.shape.dim]
        if len(dims) != 4 or dims[1] == 0 or dims[1] % BLOCK or kind.elem_type != TensorProto.FLOAT:
            continue
        name, channels = node.output[0], dims[1]
        wanting = [
            r for r in readers.get(name, []) if convolved(r, name) or (r.op_type == "Conv" and r.input[0] == name)
        ]
        if not wanting:
            continue
        weights[f"ones_{channels}"] = np.ones((channels, 1, 1, 1), np.float32)
        blocked = f"{name}_blocked"
        nodes.append(helper.make_node("Conv", [name, f"ones_{channels}"], [blocked], group=channels))
        for reader in readers[name]:
            if reader.op_type in ("Conv", "Add"):
                for place, given in enumerate(reader.input):
                    if given == name:
                        reader.input[place] = blocked
    if weights:
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return sum(node.output[0].endswith("_blocked") for node in nodes)


def _type(node: Any) -> str:
    return "" if node is None else node.op_type
