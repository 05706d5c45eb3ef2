"""Writes the tables of README.md from the published results, the counted costs and the measured speeds.

python benchmarks/write_readme.py           # rewrites the tables
python benchmarks/write_readme.py --check   # exits 1 when README.md is stale
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from recnext.analysis.costs import published_costs
from recnext.published import published

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
_TITLES = {"recnext_m1": "M1", "recnext_a1": "A1", "recnext_t": "T"}


def networks() -> str:
    """Published accuracy beside the counted size and cost of the fused network."""
    costs = published_costs()
    lines = [
        "| network | parameters, fused | GMACs at 224 | top-1 | top-1, distilled |",
        "|---|---|---|---|---|",
    ]
    for name, result in published()["classification"].items():
        cost = costs[name]
        lines.append(
            f"| `{name}` | {cost['fused_parameters'] / 1e6:.1f} M | {cost['macs'] / 1e9:.2f} "
            f"| {result['top1_base']:.1f} | {result['top1_distilled']:.1f} |"
        )
    return "\n".join([*lines, "", "Top-1 on ImageNet-1k in percent, as published; sizes and costs counted here."])


def speed() -> str:
    """CPU latency of the plain network, the plain exports and `optimize`, from benchmarks/results/cpu.json."""
    report = json.loads((RESULTS / "cpu.json").read_text(encoding="utf-8"))
    lines = [
        "| batch 1 at 224, ms | plain PyTorch | fused, channels_last | plain ONNX Runtime | `optimize` | speed-up |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in _TITLES.items():
        times: dict[str, Any] = {form: t["median"] for form, t in report["milliseconds"][name].items()}
        lines.append(
            f"| RecNeXt-{title} | {times['plain']:.1f} | {times['torch']:.1f} | {times['plain onnxruntime']:.1f} "
            f"| **{times['auto']:.1f}** | {times['plain'] / times['auto']:.1f}x |"
        )
    machine = report["machine"]
    caption = (
        f"{machine['processor']}, {machine['threads']} threads, float32; torch {machine['versions']['torch']}; "
        "medians of `benchmarks/cpu.py`, the forms of a network turn by turn in one run."
    )
    return "\n".join([*lines, "", caption])


def filled(text: str) -> str:
    """README.md with its tables written anew."""
    for name, table in (("speed", speed()), ("networks", networks())):
        pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text)
        assert count == 1, f"README.md has {count} places for the table {name!r}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = README.read_text(encoding="utf-8")
    fresh = filled(text)
    if parser.parse_args().check:
        if fresh != text:
            print("README.md is stale: run python benchmarks/write_readme.py", file=sys.stderr)
        return int(fresh != text)
    README.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
