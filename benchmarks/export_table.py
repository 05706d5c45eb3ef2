"""Size and latency of exported files, batch 1 at 224, against PyTorch: the table of docs/export.md.

    python benchmarks/export_table.py                                     # about ten minutes on two idle cores
    .venv-executorch/bin/python benchmarks/export_table.py --to executorch
    .venv-litert/bin/python benchmarks/export_table.py --to litert

All files of a network are timed turn by turn in one process, beside PyTorch (fused, channels_last). Each run rewrites
its own targets in results/export_table.json, then the table. Weights are random and int8 is calibrated on noise: that
is enough for size and speed, and says nothing of accuracy. Keep the machine otherwise idle.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from recnext import optimize
from recnext.deploy.export import described, export_to, target
from recnext.deploy.optimize.steady import Steady
from recnext.deploy.optimize.trial import WARM, timed_turns, timing
from recnext.study.speed.machine import describe_machine, one_line
from recnext.study.speed.protocol import network

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "export_table.json"
PAGE = ROOT / "docs" / "export.md"
NETWORKS = ("recnext_t", "recnext_m1", "recnext_a1")
FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "torch": {"fp32": {}},
    "torchscript": {"fp32": {}},
    "onnx": {
        "fp32": {},
        "fp32, any size": {"dynamic": True},
        "fp16": {"precision": "fp16"},
        "int8": {"precision": "int8"},
    },
    "openvino": {
        "fp32": {},
        "fp32, any size": {"dynamic": True},
        "fp16": {"precision": "fp16"},
        "int8": {"precision": "int8"},
    },
    "executorch": {"fp32": {}, "fp16": {"precision": "fp16"}},
    "litert": {"fp32": {}, "fp16": {"precision": "fp16"}},
}
DEFAULT = ("torch", "torchscript", "onnx", "openvino")
TITLES = {
    "torch": "torch.export, PyTorch",
    "torchscript": "TorchScript, PyTorch",
    "onnx": "ONNX, ONNX Runtime",
    "openvino": "OpenVINO",
    "executorch": "ExecuTorch, XNNPACK",
    "litert": "LiteRT",
}
BASELINE = "PyTorch"
_PLACE = re.compile(r"(<!-- exports: written by benchmarks/export_table\.py -->\n).*?(<!-- end exports -->)", re.DOTALL)


def measure(name: str, targets: list[str], *, size: int, threads: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Every form of one network by "target form", timed together."""
    model = network(name, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(1, 3, size, size, generator=generator).numpy() for _ in range(8)]
    x = torch.randn(1, 3, size, size, generator=generator)
    eager = optimize(model, x, backend="torch", precision="fp32", threads=threads)
    calls: dict[str, Callable[[], Any]] = {BASELINE: lambda: eager(x)}
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, form, options in ((k, f, o) for k in targets for f, o in FORMS[k].items()):
            dynamic, precision = "dynamic" in options, options.get("precision", "fp32")
            spec = described(model, name=name, size=(size, size), dynamic_batch=dynamic, dynamic_size=dynamic)
            spec = replace(spec, precision=precision, calibration=noise if precision == "int8" else ())
            chosen = target(kind)
            where = Path(folder) / f"{kind} {form}"
            made = export_to(chosen, model, spec, where, threads=threads)
            print(f"{name} {kind} {form}: {made.size_on_disk} bytes {made.problem}", file=sys.stderr, flush=True)
            if made.problem:
                raise SystemExit(f"{name} {kind} {form}: {made.problem}")
            run, image = chosen.load(made.path, threads=threads), spec.example(1)
            calls[f"{kind} {form}"] = lambda run=run, image=image: run(image)
            relative = max(row.relative for row in made.comparisons)
            rows[f"{kind} {form}"] = {"bytes": made.size_on_disk, "relative": relative, "versions": made.versions}
        times: dict[str, list[float]] = {key: [] for key in calls}
        steady = Steady(patience=60)
        for turn in timed_turns(calls, times, rounds=rounds, seconds=1e9, calls=2, steady=steady, warm=WARM):
            print(f"\r{name}: turn {turn + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    baseline = timing(times[BASELINE]).median
    for key, row in rows.items():
        found = timing(times[key])
        row |= {
            "ms": round(1e3 * found.median, 3),
            "low_ms": round(1e3 * found.low, 3),
            "high_ms": round(1e3 * found.high, 3),
            "baseline_ms": round(1e3 * baseline, 3),
        }
    return rows


def table(report: dict[str, Any]) -> str:
    """Markdown: a row a form, two columns a network."""
    names = list(report["networks"])
    titles = [name.removeprefix("recnext_") for name in names]
    lines = ["| file, runtime | " + " | ".join(f"{t}, MB | {t}, ms | against PyTorch" for t in titles) + " |"]
    lines += ["|---|" + "---:|" * (3 * len(names))]
    for kind, forms in FORMS.items():
        for form in forms:
            rows = [report["networks"][name].get(f"{kind} {form}") for name in names]
            if any(rows):
                cells = [
                    f"{r['bytes'] / 1e6:.1f} | {r['ms']:.1f} | {r['baseline_ms'] / r['ms']:.1f}x" if r else "| |"
                    for r in rows
                ]
                lines.append(f"| {TITLES[kind]}, {form} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"{one_line(report['machine'])}; batch 1 at {report['size']}, medians."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", nargs="+", default=DEFAULT, choices=FORMS)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = {"networks": {}}
    if options.output.exists():
        report = json.loads(options.output.read_text(encoding="utf-8"))
    report |= {"machine": describe_machine(torch.device("cpu"), options.threads), "size": options.size}
    for name in options.networks:
        rows = measure(name, options.to, size=options.size, threads=options.threads, rounds=options.rounds)
        kept = {k: row for k, row in report["networks"].get(name, {}).items() if k.split()[0] not in options.to}
        report["networks"][name] = kept | rows
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.output == RESULTS and PAGE.exists():
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_PLACE.sub(lambda m: f"{m[1]}{table(report)}\n{m[2]}", text), encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main()
