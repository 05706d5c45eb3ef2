"""Parameters and MACs of the published networks, counted once and kept, so that a list of them needs no networks.

`python -m recnext.study.costs` counts them anew and prints the file; the tests compare.
"""

import json
from importlib.resources import files
from typing import Any

IMAGE_SIZE = 224


def published_costs() -> dict[str, dict[str, int]]:
    """The costs of every published network by name.

    Returns:
        `parameters` (trainable), `fused_parameters`, and `macs` of the fused network for one image of 224x224.
    """
    return json.loads((files("recnext.study") / "costs.json").read_text(encoding="utf-8"))


def count_costs(name: str, *, size: int = IMAGE_SIZE, **model_args: Any) -> dict[str, int]:
    """Counts what `published_costs` keeps, for any registered network, without allocating its weights.

    Args:
        name: of a network.
        size: side of the image in pixels.
        **model_args: its constructor arguments.
    """
    import timm

    from recnext.nn.fusion import fuse

    from .analysis.cost import count_macs, count_parameters

    model = timm.create_model(name, device="meta", **model_args)
    fused = fuse(model)
    return {
        "parameters": count_parameters(model),
        "fused_parameters": count_parameters(fused),
        "macs": count_macs(fused, (1, 3, size, size)),
    }


if __name__ == "__main__":
    from recnext.checkpoints.published import published

    rows = [f'"{name}": {json.dumps(count_costs(name))}' for name in published()["classification"]]
    print("{\n " + ",\n ".join(rows) + "\n}")
