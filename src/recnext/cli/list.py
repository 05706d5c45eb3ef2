"""`recnext list`: the networks, what they cost and how good they are."""

import json as jsonlib
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, Optional

from rich import box
from rich.progress import track
from rich.table import Table

from recnext.checkpoints.published import published
from recnext.errors import RecNextError
from recnext.screen import Screen
from recnext.study.analysis.costs import IMAGE_SIZE, count_costs, published_costs

_FAMILIES = ("recnext_*", "mlla_*", "test_recnext_*")


def run(*, pattern: Optional[str] = None, all: bool = False, json: bool = False) -> int:
    """Lists the networks: parameters, MACs, published ImageNet-1k accuracy, image size.

    Args:
        pattern: only the names that fit it, such as "*_a*".
        all: also the networks without published weights (MLLA, and tiny ones for tests).
        json: print JSON.
    """
    rows = published_rows()
    if all:
        import_module("recnext.nn.models")  # registers the networks with timm
        others = [name for name in other_names({row["name"] for row in rows}) if fnmatchcase(name, pattern or "*")]
        console = Screen(stderr=True)
        rows += [_counted(name) for name in track(others, "counting", console=console, transient=True)]
    if pattern is not None:
        rows = [row for row in rows if fnmatchcase(row["name"], pattern)]
        if not rows:
            raise RecNextError(f"no network fits {pattern!r}: 'recnext list --all' shows every one")
    if json:
        print(jsonlib.dumps(rows, indent=1))
    else:
        Screen().print(table(rows))
    return 0


def other_names(known: set[str]) -> list[str]:
    """Names of our networks that are not among `known`."""
    import timm

    return [name for family in _FAMILIES for name in timm.list_models(family) if name not in known]


def published_rows() -> list[dict[str, Any]]:
    """The published networks, one mapping each, as ``--json`` prints them."""
    costs, results = published_costs(), published()["classification"]
    return [
        {
            "name": name,
            **costs[name],
            "top1_base": result.get("top1_base"),
            "top1_distilled": result.get("top1_distilled"),
            "image_size": IMAGE_SIZE,
        }
        for name, result in results.items()
    ]


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows as people read them."""
    caption = "MACs of the fused network; base, dist: published top-1, plain and distilled"
    table = Table(box=box.SIMPLE, pad_edge=False, caption=caption)
    table.add_column("network", no_wrap=True)
    for title in ("params M", "fused M", "GMACs", "image", "base", "dist"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        accuracies = (row["top1_base"], row["top1_distilled"])
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['fused_parameters'] / 1e6:.2f}",
            f"{row['macs'] / 1e9:.3f}",
            str(row["image_size"]),
            *("-" if accuracy is None else f"{accuracy:.1f}" for accuracy in accuracies),
        )
    return table


def _counted(name: str) -> dict[str, Any]:
    import timm

    config = timm.get_pretrained_cfg(name)
    size = config.input_size[-1]
    costs = count_costs(name, size=size)
    return {"name": name, **costs, "top1_base": None, "top1_distilled": None, "image_size": size}
