"""Writes the tables of docs/analysis.md and the law and the ablation of docs/recconv.md.

python benchmarks/analysis_tables.py           # rewrites the tables
python benchmarks/analysis_tables.py --check   # exits 1 when one is stale

Fields and attention come from benchmarks/results/analysis.json, which benchmarks/draw_analysis.py measures; what
RecConv alone reaches is computed here. A page names its place with
``<!-- NAME: written by benchmarks/analysis_tables.py -->`` and ends it with ``<!-- end NAME -->``.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from recnext.checkpoints.published import published
from recnext.study.analysis.erf_growth import growth
from recnext.study.analysis.laws import measured_field
from recnext.study.analysis.receptive_field import exact_receptive_field, nominal_receptive_field

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "analysis.md", ROOT / "docs" / "recconv.md")
_PLACE = re.compile(r"(<!-- (\w+): written by benchmarks/analysis_tables\.py -->\n).*?(<!-- end \2 -->)", re.DOTALL)
_LEVELS = 5


@cache
def _results() -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / "analysis.json").read_text(encoding="utf-8"))


def _table(header: str, rows: Iterable[Iterable[str]]) -> str:
    columns = header.count("|") + 1
    lines = [f"| {header} |", "|---|" + "---:|" * (columns - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def fields() -> str:
    """Effective receptive fields of untrained networks."""
    report = _results()["erf"]
    rows = (
        (
            f"`{field['model']}`",
            *(f"{one['side']} ({one['area']:.0%})" for one in field["contributions"]),
            ", ".join(f"{round(step):+d}" for step in field["offset"]),
        )
        for field in report["fields"]
    )
    table = _table("network, untrained | 20% | 30% | 50% | 99% | off centre", rows)
    return f"{table}\n\n{report['setting']}."


def growing() -> str:
    """RecConv level by level."""
    rows = ((str(step.level), str(step.law), *map(str, step.sides), str(step.reach)) for step in growth(levels=4))
    return _table("level l | k·2^l | 20% | 30% | 50% | 99% | any influence", rows)


def attention() -> str:
    """Means over the layers of each stage."""
    report = _results()["attention"]
    stages: dict[str, list[dict[str, Any]]] = {}
    for layer in report["layers"]:
        stages.setdefault(layer["layer"].split(".")[1], []).append(layer)

    def mean(layers: list[dict[str, Any]], measure: str, kernel: str) -> float:
        return sum(layer[measure][kernel] for layer in layers) / len(layers)

    kernels = ("elu", "softplus", "relu")
    rows = (
        (
            stage,
            str(layers[0]["positions"]),
            *(f"{mean(layers, 'similarity', kernel):.2f}" for kernel in kernels),
            *(f"{mean(layers, 'breadth', kernel):.2f}" for kernel in (*kernels, "softmax")),
        )
        for stage, layers in [*stages.items(), ("all", report["layers"])]
    )
    header = "stage | positions | elu + 1 | softplus(3.5) | relu | breadth: elu + 1 | softplus(3.5) | relu | softmax"
    table = _table(header, rows).replace(f"| all | {report['layers'][0]['positions']} |", "| all | |")
    (network, top1), *_ = published()["linear_attention_kernel_top1"].items()
    kernels_top1 = ", ".join(f"{value} with {kernel.replace('_', ' ')}" for kernel, value in top1.items())
    return f"{table}\n\n{report['setting']}. Published top-1 of `{network}`: {kernels_top1}."


def shapes() -> str:
    """What Grad-CAM finds where the truth is known."""
    found = _results()["shapes"]
    heat = [f"{share:.0%} at stage {stage}" for stage, share in enumerate(found["heat_on_shape"])]
    return (
        f"Of {found['scenes']} held-out scenes it names {found['right']} rightly. The shape covers "
        f"{found['shape_area']:.0%} of the image on average and holds, of the heat of its class, "
        f"{', '.join(heat[:-1])} and {heat[-1]}."
    )


def law() -> str:
    """The law k·2^l of RecConv2d with k = 5 beside what gradients measure."""
    rows = (
        (
            str(level),
            str(nominal_receptive_field(5, level=level)),
            f"{measured_field(5, level=level, mode='bilinear')[1]:.0%}",
            str(exact_receptive_field(5, level=level)),
            str(exact_receptive_field(5, level=level, mode="nearest")),
        )
        for level in range(_LEVELS + 1)
    )
    table = _table("levels l | law k·2^l | weight within it | reach, bilinear | reach, nearest", rows)
    return table.replace("|---|", "|---:|", 1)


def mixers() -> str:
    """Published top-1 of RecNeXt-M1 with each token mixer, the best of each size in bold."""
    rows = published()["ablation_recnext_m1"]
    best = {size: max(row["top1_120_epochs"] for row in rows if row["image_size"] == size) for size in (224, 384)}

    def top1(variant: str, size: int) -> str:
        for row in rows:
            if (row["variant"], row["image_size"]) == (variant, size):
                shown = f"{row['top1_120_epochs']:.2f}"
                return f"**{shown}**" if row["top1_120_epochs"] == best[size] else shown
        return ""

    parameters = {row["variant"]: row["params"] for row in rows}
    return _table(
        "token mixer | parameters | top-1 at 224 | top-1 at 384",
        ((f"`{name}`", f"{count:,}", top1(name, 224), top1(name, 384)) for name, count in parameters.items()),
    )


TABLES: dict[str, Callable[[], str]] = {
    function.__name__: function for function in (fields, growing, attention, shapes, law, mixers)
}


def filled(text: str) -> str:
    """A page with its tables written anew."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]()}\n{place[3]}", text)


def stale() -> dict[Path, str]:
    """The pages whose tables are not what they would be now, and their new text."""
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    return {page: fresh for page, text in texts.items() if (fresh := filled(text)) != text}


def main() -> int:
    pages = stale()
    if "--check" in sys.argv[1:]:
        print(f"stale: {', '.join(map(str, pages))}" if pages else "fresh")
        return int(bool(pages))
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
