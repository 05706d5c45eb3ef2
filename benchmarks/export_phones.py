"""Sizes and errors of the files for phones: Core ML, ExecuTorch and LiteRT, at full depth and 224 pixels.

    .venv/bin/python benchmarks/export_phones.py --to coreml
    .venv-executorch/bin/python benchmarks/export_phones.py --to executorch
    .venv-litert/bin/python benchmarks/export_phones.py --to litert

Each rewrites its own rows of results/export_phones.json and the table of docs/export-phones.md. Weights are random:
sizes and errors depend on the network, not on what it has learned. Nothing here is a speed.
"""

import argparse
import json
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch

import recnext  # noqa: F401 (registers the networks)
from recnext.deploy.export.job import export_to
from recnext.deploy.export.network import described
from recnext.deploy.export.targets import target

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "export_phones.json"
PAGE = ROOT / "docs" / "export-phones.md"
NETWORKS = ("recnext_m1", "recnext_a1", "recnext_t", "recnext_t_share_channel")
FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "coreml": {
        "fp32": {},
        "fp16": {"precision": "fp16"},
        "int8 weights": {"compression": "int8"},
        "palettised weights": {"compression": "palettised"},
    },
    "executorch": {
        "fp32": {},
        "fp16": {"precision": "fp16"},
        "Core ML, fp16": {"precision": "fp16", "delegate": "coreml"},
    },
    "litert": {"fp32": {}, "fp16": {"precision": "fp16"}},
}
_TITLES = {"coreml": "Core ML", "executorch": "ExecuTorch", "litert": "LiteRT"}
_PLACE = re.compile(r"(<!-- phones: written by benchmarks/export_phones\.py -->\n).*?(<!-- end phones -->)", re.DOTALL)


def measure(name: str, format_name: str, form: str) -> dict[str, Any]:
    """Exports one network and gives a row."""
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    spec = described(network, name=name, size=(224, 224), **FORMS[format_name][form])
    with tempfile.TemporaryDirectory() as folder:
        made = export_to(target(format_name), network, spec, Path(folder))
    (row,) = made.comparisons
    return {
        "network": name,
        "target": format_name,
        "form": form,
        "bytes": made.size_on_disk,
        "relative": row.relative,
        "absolute": row.absolute,
        "batchnorms": made.norms,
        "operators": made.contents.operators,
        "problem": made.problem,
        "unproved": made.unproved,
        "versions": made.versions,
    }


def read() -> list[dict[str, Any]]:
    """The rows so far."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []


def write(row: dict[str, Any]) -> None:
    """Puts a row in place of the one of the same file, and the table into the page."""
    key = ("network", "target", "form")
    rows = [other for other in read() if [other[k] for k in key] != [row[k] for k in key]] + [row]
    order = [(t, f, n) for t, forms in FORMS.items() for f in forms for n in NETWORKS]
    rows.sort(key=lambda r: order.index((r["target"], r["form"], r["network"])))
    document = {"machine": platform.machine(), "image": 224, "batch": 1, "rows": rows}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if PAGE.exists():
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_PLACE.sub(lambda m: f"{m[1]}{table(rows)}\n{m[2]}", page), encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: size and relative error, a row a form, a column a network."""
    names = [name for name in NETWORKS if any(row["network"] == name for row in rows)]
    short = [name.removeprefix("recnext_") for name in names]
    lines = ["| file | " + " | ".join(short) + " |", "|---|" + "---:|" * len(names)]
    for kind, forms in FORMS.items():
        for form in forms:
            cells = []
            for name in names:
                found = [r for r in rows if (r["network"], r["target"], r["form"]) == (name, kind, form)]
                cells.append(f"{found[0]['bytes'] / 1e6:.1f} MB, {found[0]['relative']:.0e}" if found else "")
            lines.append(f"| {_TITLES[kind]}, {form} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", choices=FORMS, required=True)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--forms", nargs="+", help="by default all of the target")
    arguments = parser.parse_args()
    failed = 0
    for form in arguments.forms or FORMS[arguments.to]:
        for name in arguments.networks:
            row = measure(name, arguments.to, form)
            write(row)
            failed += bool(row["problem"])
            print(
                f"{name} {arguments.to} {form}: {row['bytes']} bytes, {row['relative']:.1e} {row['problem']}",
                flush=True,
            )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
