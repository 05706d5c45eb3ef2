"""Every CPU ratio that README and docs state, in one run: networks in all backends against their plain form.

    python benchmarks/cpu.py            # under ten minutes on two cores; writes benchmarks/results/cpu.{json,md}

Everything that is compared is timed turn by turn in this one process. Keep the machine otherwise idle.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from plain_form import plain_fusion
from recnext import optimize
from recnext.deploy.optimize import RUNTIMES
from recnext.deploy.optimize.program import OPSET
from recnext.deploy.optimize.quiet import quiet
from recnext.deploy.optimize.steady import Steady
from recnext.deploy.optimize.trial import WARM, Timing, timed_turns, timing
from recnext.study.speed.machine import describe_machine, one_line
from recnext.study.speed.protocol import network

RESULTS = Path(__file__).parent / "results"
NETWORKS = ("recnext_m1", "recnext_a1", "recnext_t")
PEERS = (("recnext_m3", "repvit_m1_1"), ("recnext_t", "fastvit_t8"))

# bar -> the least speed-up over the plain form, by network
SPEEDUPS = {
    "auto": {"recnext_m1": 5.0, "recnext_a1": 4.0, "recnext_t": 5.0},
    "best fp32": {"recnext_m1": 3.2, "recnext_a1": 3.0, "recnext_t": 3.5},
    "torch": {"recnext_m1": 1.45},
}
OVER_PLAIN_EXPORT = {"recnext_m1": 1.0, "recnext_a1": 1.03, "recnext_t": 1.0}
OVER_PEER = {"recnext_m3": 1.0, "recnext_t": 0.9}

Calls = dict[str, Callable[[], Any]]


def plain_onnx(model: torch.nn.Module, x: torch.Tensor, threads: int) -> Callable[[], Any]:
    """What a user gets from the exporter and a session with default options."""
    import onnxruntime

    with quiet():
        program = torch.onnx.export(model, (x,), dynamo=True, opset_version=OPSET, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)


def plain_openvino(model: torch.nn.Module, x: torch.Tensor, threads: int) -> Callable[[], Any]:
    """What a user gets from the converter and the latency hint."""
    import openvino

    with quiet():
        converted = openvino.convert_model(torch.export.export(model, (x,)))
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()
    feed = x.numpy()
    return lambda: request.infer([feed])


def forms(name: str, x: torch.Tensor, threads: int) -> tuple[Calls, str]:
    """The network in every form, and what auto chose."""
    model = network(name, torch.device("cpu"))
    plain = plain_fusion(model)
    calls: Calls = {
        "plain": torch.inference_mode()(lambda: plain(x)),
        "plain onnxruntime": plain_onnx(plain, x, threads),
        "plain openvino": plain_openvino(plain, x, threads),
    }
    for backend in ("torch", *RUNTIMES, "auto"):
        run = optimize(model, x, backend=backend, precision="auto" if backend == "auto" else "fp32", threads=threads)
        calls[backend] = lambda run=run: run(x)
    return calls, run.reason


def timed(calls: Calls, label: str, rounds: int, steady: Steady) -> dict[str, Timing]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in timed_turns(calls, times, rounds=rounds, seconds=1e9, calls=2, steady=steady, warm=WARM):
        print(f"\r{label}: turn {turn + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: timing(values) for name, values in times.items()}


def bar(what: str, value: float, limit: float, *, at_most: bool = False) -> dict[str, Any]:
    met = value <= limit if at_most else value >= limit
    return {"bar": what, "value": round(value, 3), "limit": f"{'≤' if at_most else '≥'} {limit}", "met": met}


def ratios(name: str, times: dict[str, Timing]) -> list[dict[str, Any]]:
    """The bars of one network."""

    def over(slow: str, *fast: str) -> float:
        return times[slow].median / min(times[form].median for form in fast)

    measured = {"auto": ("auto",), "best fp32": ("onnxruntime", "openvino"), "torch": ("torch",)}
    rows = [
        bar(f"{name} {form} over plain", over("plain", *measured[form]), limits[name])
        for form, limits in SPEEDUPS.items()
        if name in limits
    ]
    limit = OVER_PLAIN_EXPORT[name]
    rows += [
        bar(f"{name} {runtime} over its plain export", over(f"plain {runtime}", runtime), limit) for runtime in RUNTIMES
    ]
    return rows


def peers(
    pair: tuple[str, str], x: torch.Tensor, threads: int, rounds: int, steady: Steady
) -> tuple[dict[str, Timing], list[dict[str, Any]]]:
    """One of our networks and one of others', in both runtimes, turn by turn."""
    calls: Calls = {}
    for name in pair:
        model = network(name, torch.device("cpu"))
        for backend in RUNTIMES:
            run = optimize(model, x, backend=backend, precision="fp32", threads=threads)
            calls[f"{name} {backend}"] = lambda run=run: run(x)
    times = timed(calls, " and ".join(pair), rounds, steady)
    ours, theirs = pair
    rows = [
        bar(
            f"{ours} over {theirs}, latency in {backend}",
            times[f"{ours} {backend}"].median / times[f"{theirs} {backend}"].median,
            OVER_PEER[ours],
            at_most=True,
        )
        for backend in RUNTIMES
    ]
    return times, rows


def markdown(report: dict[str, Any]) -> str:
    lines = [f"# CPU, batch 1 at {report['size']}\n", f"{one_line(report['machine'])}\n"]
    lines += ["| ratio | measured | bar | met |", "|---|---|---|---|"]
    lines += [
        f"| {r['bar']} | {r['value']:.2f} | {r['limit']} | {'yes' if r['met'] else 'no'} |" for r in report["bars"]
    ]
    for title, rows in report["milliseconds"].items():
        lines += ["", f"## {title}", "", "| form | median ms | quartiles |", "|---|---|---|"]
        lines += [f"| {name} | {t['median']:.2f} | {t['low']:.2f}-{t['high']:.2f} |" for name, t in rows.items()]
    lines += ["", *(f"- {name}: {reason}" for name, reason in report["chosen"].items())]
    return "\n".join(lines) + "\n"


def write(report: dict[str, Any], path: Path) -> None:
    """What has been measured so far, as JSON and Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(report), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--networks", nargs="*", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "cpu.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x = torch.randn(1, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    steady = Steady(patience=300)
    report: dict[str, Any] = {
        "machine": describe_machine(x.device, options.threads),
        "size": options.size,
        "rounds": options.rounds,
        "bars": [],
        "milliseconds": {},
        "chosen": {},
    }

    def keep(title: str, times: dict[str, Timing]) -> None:
        report["machine"]["steadiness"] = steady.describe()
        report["milliseconds"][title] = {
            name: {key: round(1e3 * getattr(t, key), 3) for key in ("median", "low", "high", "best")}
            for name, t in times.items()
        }

    for name in options.networks:
        print(f"{name}: exporting", file=sys.stderr)
        calls, report["chosen"][name] = forms(name, x, options.threads)
        times = timed(calls, name, options.rounds, steady)
        keep(name, times)
        report["bars"] += ratios(name, times)
        write(report, options.output)
    if not options.no_peers:
        for pair in PEERS:
            times, rows = peers(pair, x, options.threads, options.rounds, steady)
            keep(" and ".join(pair), times)
            report["bars"] += rows
            write(report, options.output)
    print(markdown(report))


if __name__ == "__main__":
    main()
