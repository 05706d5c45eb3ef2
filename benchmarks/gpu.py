"""RecNeXt on a GPU: plain NCHW, channels_last, torch.compile and the Triton RecConv, beside the roofline.

    python benchmarks/gpu.py --out benchmarks/results/gpu

Every variant is captured in a CUDA graph, so that the times are the GPU's; the eager ones are also timed launched
from Python. Variants of one network take turns, A B A B; the tables give medians. The floor of a network is the
larger of its FLOPs over the measured bf16 (TF32 for float32) matrix product, and its bytes over the measured copy,
where the bytes are every token mixer and channel mixer reading its input and writing its output once.
A training step is forward, cross entropy and backward; its floor is three times the forward's.
"""

import argparse
import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import triton
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import recnext
from recnext.nn.ops import dispatch

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# name: (memory format, RECNEXT_TRITON, compiled)
VARIANTS = {
    "nchw": (torch.contiguous_format, "0", False),
    "channels_last": (torch.channels_last, "0", False),
    "compile": (torch.channels_last, "0", True),
    "ours": (torch.channels_last, "1", False),
    "ours+compile": (torch.channels_last, "1", True),
}
STAGES = [(48, 56, 4), (96, 28, 3), (192, 14, 2), (384, 7, 1)]  # of recnext_m1 at 224: channels, size, level


@contextlib.contextmanager
def triton_setting(value: str) -> Iterator[None]:
    before, dispatch.SETTING = dispatch.SETTING, value
    try:
        yield
    finally:
        dispatch.SETTING = before


def captured(step: Callable[[], Any]) -> Callable[[], None]:
    """The step as a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()

    def replay(kept: Any = (graph, step)) -> None:  # the graph reads the step's tensors: both must live
        kept[0].replay()

    return replay


def gpu_ms(call: Callable[[], Any], inner: int) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(inner):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / inner


def interleaved(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, dict[str, float]]:
    """Medians and spreads of calls that take turns for about the given time."""
    inner = {}
    for name, call in calls.items():
        inner[name] = max(1, min(50, int(3.0 / max(gpu_ms(call, 2), 1e-3))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    stop = time.monotonic() + seconds
    while time.monotonic() < stop or len(times[next(iter(calls))]) < 5:
        for name, call in calls.items():
            times[name].append(gpu_ms(call, inner[name]))
    return {n: {"ms": statistics.median(t), "min": min(t), "max": max(t), "rounds": len(t)} for n, t in times.items()}


def ceilings() -> dict[str, float]:
    """Copy bandwidth in TB/s, bytes read and written, and matrix products in TFLOP/s, on random data."""
    source = torch.randn(1 << 29, device="cuda")
    target = torch.empty_like(source)
    copy = statistics.median(gpu_ms(lambda: target.copy_(source), 5) for _ in range(5))
    rates = {"copy_tb_s": 2 * source.nbytes / copy / 1e9}
    torch.backends.cuda.matmul.allow_tf32 = True
    for name, dtype in DTYPES.items():
        m = torch.randn(8192, 8192, device="cuda", dtype=dtype)
        ms = statistics.median(gpu_ms(lambda m=m: m @ m, 5) for _ in range(5))
        rates[f"matmul_{name}_tflop_s"] = 2 * 8192**3 / ms / 1e9
    return rates


def floor_ms(name: str, batch: int, dtype: str, rates: dict[str, float]) -> dict[str, float]:
    """The roofline of a forward pass, from one image counted on the CPU."""
    moved = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += inputs[0].numel() + output.numel()

    model = timm.create_model(name).eval()
    for path, module in model.named_modules():
        if path.rsplit(".", 1)[-1] in ("token_mixer", "channel_mixer", "stem", "rep_mixer"):
            module.register_forward_hook(count)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(torch.randn(1, 3, 224, 224))
    weights = sum(p.numel() for p in model.parameters())
    size = 2 if dtype == "bf16" else 4
    by_flops = flops.get_total_flops() * batch / rates[f"matmul_{dtype}_tflop_s"] / 1e9
    by_bytes = (moved * batch + weights) * size / rates["copy_tb_s"] / 1e9
    return {"flops_ms": by_flops, "bytes_ms": by_bytes, "floor_ms": max(by_flops, by_bytes)}


def network(name: str, variant: str, dtype: torch.dtype, batch: int, train: bool) -> Callable[[], Any]:
    layout, _, compiled = VARIANTS[variant]
    torch.manual_seed(0)
    model: Any = timm.create_model(name).cuda().to(memory_format=layout).train(train)
    x = torch.randn(batch, 3, 224, 224, device="cuda").to(memory_format=layout)
    if not train:
        model = recnext.fuse(model).to(memory_format=layout)
        model, x = model.to(dtype), x.to(dtype)
    run = torch.compile(model) if compiled else model
    if not train:

        def forward() -> Tensor:
            with torch.no_grad():
                return run(x)

        return forward
    target = torch.randint(1000, (batch,), device="cuda")

    def step() -> None:
        for p in model.parameters():
            p.grad = None
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16, cache_enabled=False):
            loss = nn.functional.cross_entropy(run(x), target)
        loss.backward()

    return step


def measure(name: str, variants: list[str], dtype: str, batch: int, train: bool, seconds: float) -> dict[str, Any]:
    """Times of the variants of one network; one that fails is a row with its error."""
    calls: dict[str, Callable[[], Any]] = {}
    result: dict[str, Any] = {}
    for variant in variants:
        torch._dynamo.reset()
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        try:
            with triton_setting(VARIANTS[variant][1]):
                step = network(name, variant, DTYPES[dtype], batch, train)
                step()
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                step()
                torch.cuda.synchronize()
                result[variant] = {"peak_mib": (torch.cuda.max_memory_allocated() - before) / 2**20}
                if not VARIANTS[variant][2]:
                    launched = [_wall_ms(step) for _ in range(5)]
                    result[variant]["launched_ms"] = statistics.median(launched)
                calls[variant] = captured(step)
        except Exception as exc:  # out of memory or a compiler's failure must not lose the other rows
            result[variant] = {"error": f"{type(exc).__name__}: {exc}"[:300]}
    if calls:
        for variant, times in interleaved(calls, seconds).items():
            result[variant].update(times)
    return result


def _wall_ms(step: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) / 3 * 1e3


def operator(stage: tuple[int, int, int], batch: int, dtype: str, seconds: float, rates: dict[str, float]) -> dict:
    """RecConv alone, forward and forward + backward, as CUDA graphs."""
    from recnext.nn.ops import recconv2d
    from recnext.nn.ops.library import recconv2d_eager

    channels, size, level = stage
    x = torch.randn(batch, channels, size, size, device="cuda", dtype=DTYPES[dtype])
    last = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    first = x.requires_grad_()
    ws = [torch.randn(channels, 1, 5, 5, device="cuda", dtype=DTYPES[dtype]) * 0.1 for _ in range(level + 2)]
    ws = [w.requires_grad_() for w in ws]
    forms = {
        "nchw": (first, lambda: recconv2d(first, ws[0], ws[1:])),
        "channels_last": (last, lambda: recconv2d(last, ws[0], ws[1:])),
        "ours": (last, lambda: recconv2d_eager(last, ws[0], ws[1:], None, [], "bilinear", DTYPES[dtype])),
    }
    grad = torch.randn_like(last)
    calls = {}
    for name, (given, form) in forms.items():

        def forward(form: Callable[[], Tensor] = form) -> Tensor:
            with torch.no_grad():
                return form()

        def both(given: Tensor = given, form: Callable[[], Tensor] = form) -> Any:
            return torch.autograd.grad(form(), [given, *ws], grad)

        calls[name], calls[f"{name} +backward"] = captured(forward), captured(both)
    with torch.no_grad():
        expected, ours = forms["channels_last"][1]().double(), forms["ours"][1]().double()
    result = interleaved(calls, seconds)
    result["error"] = {"relative": float((ours - expected).norm() / expected.norm())}
    result["floor"] = {"ms": 2 * last.nbytes / rates["copy_tb_s"] / 1e9}
    return result


def prepare(task: tuple[int, int, str, str]) -> None:
    """Compiles the kernels of one width and one pass into Triton's cache."""
    from recnext.nn.ops import launch

    channels, size, dtype, which = task
    level = {56: 4, 28: 3, 14: 2, 7: 1}[size]
    x = torch.randn(2, channels, size, size, device="cuda").to(DTYPES[dtype], memory_format=torch.channels_last)
    ws = [torch.randn(channels, 1, 5, 5, device="cuda") for _ in range(level + 2)]
    if which == "forward":
        launch.forward(x, ws[0], ws[1:], None, [], "bilinear", DTYPES[dtype])
    else:
        launch.backward(x, x, ws[0], ws[1:], None, [], "bilinear")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line a network and setting, the GPU's milliseconds a variant."""
    names = list(VARIANTS)
    lines = [
        "| network | dtype | pass | batch | " + " | ".join(f"{n}, ms" for n in names)
        + " | channels_last / ours | floor, ms | launched channels_last / ours, ms | peak MiB channels_last / ours |",
        "|---|---|---|---|" + "---|" * (len(names) + 4),
    ]  # fmt: skip
    for row in rows:
        got = row["variants"]

        def cell(variant: str, key: str = "ms", got: dict = got) -> str:
            value = got.get(variant, {}).get(key)
            return "-" if value is None else f"{value:.4g}"

        both = [got.get(n, {}).get("ms") for n in ("channels_last", "ours")]
        ratio = f"{both[0] / both[1]:.2f}" if all(both) else "-"
        cells = [cell(n) for n in names] + [ratio, f"{row['floor']['floor_ms']:.3g}"]
        cells += [f"{cell('channels_last', k)} / {cell('ours', k)}" for k in ("launched_ms", "peak_mib")]
        lines.append(
            f"| {row['model']} | {row['dtype']} | {row['pass']} | {row['batch']} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def operator_table(rows: list[dict[str, Any]]) -> str:
    names = [f"{n}{b}" for b in ("", " +backward") for n in ("nchw", "channels_last", "ours")]
    lines = [
        "| RecConv C, H=W, level | dtype | batch | " + " | ".join(f"{n}, ms" for n in names) + " | floor, ms |",
        "|---|---|---|" + "---|" * (len(names) + 1),
    ]
    for row in rows:
        cells = [f"{row['times'][n]['ms']:.3g}" for n in [*names, "floor"]]
        lines.append(f"| {row['stage']} | {row['dtype']} | {row['batch']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = [
        f"recnext_{n}" for n in ["m0", "m1", "m2", "m3", "m4", "m5", "a0", "a1", "a2", "a3", "a4", "a5", "t", "s", "b"]
    ]
    parser.add_argument("--models", nargs="*", default=everything)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--dtypes", nargs="*", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--batches", nargs="*", type=int, default=[256, 1])
    parser.add_argument("--passes", nargs="*", default=["forward", "train"], choices=["forward", "train"])
    parser.add_argument("--seconds", type=float, default=1.0, help="timing a network, dtype, pass and batch")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no row is begun")
    parser.add_argument("--compile-models", nargs="*", default=None, help="only these run the compiled variants")
    parser.add_argument("--prepare", action=argparse.BooleanOptionalAction, default=True, help="compile in parallel")
    parser.add_argument("--operator", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--append", action="store_true", help="add to the rows already in OUT.json")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu"), help="without .json and .md")
    args = parser.parse_args()
    begin = time.monotonic()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    store = args.out.with_suffix(".json")
    machine = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
        "cudnn": torch.backends.cudnn.version(),
        "recnext": recnext.__version__,
    }
    torch.backends.cudnn.allow_tf32 = True
    report = json.loads(store.read_text()) if args.append and store.exists() else {"operator": [], "networks": []}
    rates = ceilings()
    report |= {"machine": machine, "ceilings": rates}
    print(json.dumps(report["machine"] | rates), flush=True)
    widths = [(c, s) for c, s, _ in STAGES] + ([(40, 56), (64, 56)] if len(args.models) > 1 else [])
    tasks = [(c, s, d, p) for d in args.dtypes for p in ("backward", "forward") for c, s in widths]
    if args.prepare:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(min(14, os.cpu_count() or 1), context) as pool:
            list(pool.map(prepare, tasks))
    print(f"kernels compiled after {time.monotonic() - begin:.0f} s", flush=True)

    def save() -> None:
        store.write_text(json.dumps(report, indent=1))
        where = ", ".join(f"{k} {v}" for k, v in machine.items())
        limits = ", ".join(f"{k} {v:.4g}" for k, v in rates.items())
        text = f"{where}; channels_last unless named; 224 px. Measured: {limits}.\n\n"
        text += operator_table(report["operator"]) + "\n\n" + table(report["networks"]) + "\n"
        args.out.with_suffix(".md").write_text(text)

    for dtype in args.dtypes if args.operator else []:
        for stage in STAGES:
            times = operator(stage, 256, dtype, min(args.seconds, 1.0), rates)
            report["operator"].append({"stage": stage, "dtype": dtype, "batch": 256, "times": times})
            save()
            print(
                stage, dtype, times["error"], {n: round(t["ms"], 4) for n, t in times.items() if "ms" in t}, flush=True
            )
    print(f"operator done after {time.monotonic() - begin:.0f} s", flush=True)
    for name in args.models:
        for which in args.passes:
            for dtype in args.dtypes:
                for batch in args.batches:
                    if time.monotonic() - begin > args.budget or (which == "train" and batch == 1):
                        continue
                    floor = floor_ms(name, batch, dtype, rates)
                    if which == "train":
                        floor = {k: 3 * v for k, v in floor.items()}
                    chosen = args.variants
                    if args.compile_models is not None and name not in args.compile_models:
                        chosen = [v for v in chosen if not VARIANTS[v][2]]
                    variants = measure(name, chosen, dtype, batch, which == "train", args.seconds)
                    row = {"model": name, "dtype": dtype, "pass": which, "batch": batch}
                    report["networks"].append(row | {"floor": floor, "variants": variants})
                    save()
                    short = {v: r.get("ms", r.get("error")) for v, r in variants.items()}
                    print(f"{time.monotonic() - begin:.0f} s", row, short, flush=True)
    print(args.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
