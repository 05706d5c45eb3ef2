"""Where OpenVINO spends the time of a network: milliseconds by kind of operation, ours beside peers.

    python benchmarks/profile_cpu.py      # a minute; writes benchmarks/results/cpu_profile.json

Programs are those of `recnext.optimize`, batch 1, float32. The counters of the runtime add about a microsecond to each
of some 300 operations, so that sums are above the latencies of benchmarks/cpu.py; the shares are what counts.
benchmarks/write_tables.py takes the table of docs/benchmarking.md from here.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import openvino
import torch

from recnext.deploy.optimize.network import prepare
from recnext.deploy.optimize.open_vino import compile_model
from recnext.deploy.optimize.program import onnx_program
from recnext.deploy.optimize.steady import Steady
from recnext.study.speed.machine import describe_machine
from recnext.study.speed.protocol import network

RESULTS = Path(__file__).parent / "results" / "cpu_profile.json"
NETWORKS = ("recnext_m3", "repvit_m1_1", "recnext_t", "fastvit_t8")
KINDS = ("pointwise", "depthwise", "other convolutions", "resize", "elementwise", "matrix products", "layout", "rest")


def kind_of(operation: str, implementation: str) -> str:
    """One of KINDS, from the names that OpenVINO gives an executed node."""
    if operation == "GroupConvolution":
        return "depthwise" if "dw" in implementation or "jit" in implementation else "pointwise"
    if operation == "Convolution":
        return "pointwise" if "1x1" in implementation else "other convolutions"
    table = {
        "Interpolate": "resize",
        "MatMul": "matrix products",
        "FullyConnected": "matrix products",
        "Subgraph": "elementwise",
        "Eltwise": "elementwise",
        "Reorder": "layout",
        "Concat": "layout",
        "VariadicSplit": "layout",
        "Split": "layout",
        "Transpose": "layout",
    }
    return table.get(operation, "rest")


def profile(name: str, *, size: int, threads: int, calls: int, steady: Steady) -> dict[str, Any]:
    """Median milliseconds and number of operations of every kind."""
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    program = onnx_program(prepare(network(name, torch.device("cpu")), x, threads), (3, size, size))
    core = openvino.Core()
    model = core.read_model(program["model.onnx"])
    model.reshape([1, 3, size, size])
    compiled = compile_model(
        core,
        model,
        PERFORMANCE_HINT="LATENCY",
        NUM_STREAMS=1,
        INFERENCE_NUM_THREADS=threads,
        INFERENCE_PRECISION_HINT="f32",
        PERF_COUNT=True,
    )
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x.numpy(), shared_memory=True))
    times: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, int] = {}
    for call in range(calls):
        if call % 10 == 0:
            steady.wait()
            request.infer()  # ends the spinning of torch's threads
        request.infer()
        total: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        counts = dict.fromkeys(KINDS, 0)
        for node in request.profiling_info:
            seconds = node.real_time.total_seconds()
            if seconds > 0:
                kind = kind_of(node.node_type, node.exec_type)
                total[kind] += 1e3 * seconds
                counts[kind] += 1
        for kind, milliseconds in total.items():
            times[kind].append(milliseconds)
    return {
        "milliseconds": {kind: round(statistics.median(values), 3) for kind, values in times.items()},
        "operations": counts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steady = Steady(patience=300)
    report: dict[str, Any] = {
        "machine": describe_machine(torch.device("cpu"), options.threads),
        "size": options.size,
        "networks": {
            name: profile(name, size=options.size, threads=options.threads, calls=options.calls, steady=steady)
            for name in options.networks
        },
    }
    report["machine"]["steadiness"] = steady.describe()
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, found in report["networks"].items():
        print(f"{name}: {sum(found['milliseconds'].values()):.2f} ms in all")
        for kind, milliseconds in found["milliseconds"].items():
            print(f"  {kind:20} {milliseconds:7.2f} ms  {found['operations'][kind]:4} operations")


if __name__ == "__main__":
    main()
