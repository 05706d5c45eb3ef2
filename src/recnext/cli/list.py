"""`recnext list`: the networks, what they cost and how good they are."""

from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, Optional

from recnext.checkpoints.published import published
from recnext.errors import RecNextError
from recnext.screen import Screen
from recnext.study.costs import IMAGE_SIZE, count_costs, published_costs

from .shared import make_table, print_json, progress_bar

_FAMILIES = ("recnext_*", "mlla_*", "test_recnext_*")


def run(*, pattern: Optional[str] = None, all: bool = False, json: bool = False) -> int:
    """Lists the networks: parameters, MACs, published ImageNet-1k accuracy, image size.

    Args:
        pattern: only the names that fit it, such as "*_a*".
        all: also the networks without published weights (MLLA, and tiny ones for tests).
        json: print JSON.
    """
    rows = [row for row in published_rows() if fnmatchcase(row["name"], pattern or "*")]
    if all:
        import_module("recnext.nn.models")  # registers the networks with timm
        others = [name for name in other_names(set(published_costs())) if fnmatchcase(name, pattern or "*")]
        with progress_bar() as bar:
            rows += [_counted(name) for name in bar.track(others, description="counting")]
    if not rows:
        raise RecNextError(f"no network fits {pattern!r}: 'recnext list --all' shows every one")
    if json:
        print_json(rows)
    else:
        _print(rows)
    return 0


def other_names(known: set[str]) -> list[str]:
    """Names of our networks that are not among `known`."""
    import timm

    return [name for family in _FAMILIES for name in timm.list_models(family) if name not in known]


def published_rows() -> list[dict[str, Any]]:
    """The published networks, one mapping each, as ``--json`` prints them."""
    costs, results = published_costs(), published()["classification"]
    return [_row(name, costs[name], IMAGE_SIZE, **result) for name, result in results.items()]


def _counted(name: str) -> dict[str, Any]:
    import timm

    size = timm.get_pretrained_cfg(name).input_size[-1]
    return _row(name, count_costs(name, size=size), size)


def _row(name: str, costs: dict[str, int], size: int, **published: Any) -> dict[str, Any]:
    accuracies = {key: published.get(key) for key in ("top1_base", "top1_distilled")}
    return {"name": name, **costs, **accuracies, "image_size": size}


def _print(rows: list[dict[str, Any]]) -> None:
    headings = ("network", "params M", "fused M", "GMACs", "image", "base", "dist")
    table = make_table(*headings, caption="MACs of the fused network; base, dist: published top-1, plain and distilled")
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
    Screen().print(table)
