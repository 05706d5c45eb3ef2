"""Writes the tables of README.md and of docs/ from the published results, the counted costs and the measured speeds.

python benchmarks/write_tables.py           # rewrites the tables
python benchmarks/write_tables.py --check   # exits 1 when one is stale

A page names its place with ``<!-- NAME: written by benchmarks/write_tables.py -->`` and ends it with
``<!-- end NAME -->``; NAME is a function below.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from recnext.checkpoints.published import published
from recnext.study.costs import published_costs

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_TITLES = {"recnext_m1": "M1", "recnext_a1": "A1", "recnext_t": "T"}
_PLACE = re.compile(r"(<!-- (\w+): written by benchmarks/write_tables\.py -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def _table(header: str, rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; the first column to the left, numbers to the right."""
    columns = header.count("|") + 1
    lines = [f"| {header} |", "|---|" + "---:|" * (columns - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:g}"


def networks() -> str:
    """Published accuracy beside the counted size and cost of the fused network."""
    costs = published_costs()
    table = _table(
        "network | parameters, fused | GMACs at 224 | top-1 | top-1, distilled",
        (
            (
                f"`{name}`",
                f"{costs[name]['fused_parameters'] / 1e6:.1f} M",
                f"{costs[name]['macs'] / 1e9:.2f}",
                f"{result['top1_base']:.1f}",
                f"{result['top1_distilled']:.1f}",
            )
            for name, result in published()["classification"].items()
        ),
    )
    return f"{table}\n\nTop-1 on ImageNet-1k in percent, as published; sizes and costs counted here."


def classification() -> str:
    """Everything published of a network beside what is counted here."""
    costs = published_costs()
    table = _table(
        "network | parameters | fused | GMACs | top-1 | distilled | iPhone 13, ms | Cortex-A57, ms | RTX 3090, img/s",
        (
            (
                f"`{name}`",
                f"{costs[name]['parameters']:,}",
                f"{costs[name]['fused_parameters']:,}",
                f"{costs[name]['macs'] / 1e9:.3f}",
                f"{result['top1_base']:.1f}",
                f"{result['top1_distilled']:.1f}",
                _cell(result.get("npu_latency_ms_iphone13")),
                _cell(result.get("cpu_latency_ms_cortex_a57_onnx")),
                _cell(result.get("throughput_rtx3090")),
            )
            for name, result in published()["classification"].items()
        ),
    )
    return (
        f"{table}\n\nParameters and GMACs (224 pixels, fused) are counted here; top-1 in percent, latencies and "
        "throughputs are those published for the published code."
    )


def robustness() -> str:
    """Published robustness."""
    rows = published()["robustness"]
    return _table(
        "network | ImageNet-C, mCE | ImageNet-A | ImageNet-R | ImageNet-Sketch",
        ((f"`{name}`" if name in published_costs() else name, *map(_cell, row.values())) for name, row in rows.items()),
    )


def mlla() -> str:
    """Published results of RecConv in MLLA."""
    rows = published()["mlla_top1_300_epochs_256px"]
    return _table(
        "token mixer | MLLA nano | MLLA mini",
        ((mixer.replace("_", " "), *(_cell(rows[size][mixer]) for size in rows)) for mixer in rows["mlla_nano"]),
    )


def coco() -> str:
    """Published detection results."""
    keys = ("ap_box", "ap50_box", "ap75_box", "ap_mask", "ap50_mask", "ap75_mask")
    return _table(
        "backbone | box AP | AP50 | AP75 | mask AP | AP50 | AP75",
        ((f"`{name}`", *(_cell(row[key]) for key in keys)) for name, row in published()["coco_mask_rcnn_1x"].items()),
    )


def ade20k() -> str:
    """Published segmentation results."""
    rows = published()["ade20k_semantic_fpn"].items()
    return _table("backbone | mIoU", ((f"`{name}`", _cell(row["miou"])) for name, row in rows))


def speed() -> str:
    """CPU latency of the plain network, the plain exports and `optimize`, from benchmarks/results/cpu.json."""
    report, where = _measured("cpu")
    rows, chosen = [], []
    for name, title in _TITLES.items():
        times = {form: timing["median"] for form, timing in report["milliseconds"][name].items()}
        shown = (
            times["plain"],
            times["torch"],
            times["plain onnxruntime"],
            min(times["onnxruntime"], times["openvino"]),
        )
        ratio = times["plain"] / times["auto"]
        rows.append((f"RecNeXt-{title}", *(f"{t:.1f}" for t in shown), f"**{times['auto']:.1f}**", f"{ratio:.1f}x"))
        chosen.append(report["chosen"][name].partition(",")[0])
    header = (
        "batch 1 at 224, ms | plain PyTorch | packed PyTorch | plain ONNX Runtime | `optimize`, float32 | `optimize` "
        "| speed-up"
    )
    picked = ", ".join(dict.fromkeys(chosen))
    caption = (
        f"{where[:-1]}; `optimize` picked {picked}; in float32 its outputs are within 1e-4. "
        "Medians of `benchmarks/cpu.py`, the forms of a network turn by turn in one run."
    )
    return f"{_table(header, rows)}\n\n{caption}"


def ratios() -> str:
    """Every ratio that was aimed at, from benchmarks/results/cpu.json and train_step.json."""
    report, where = _measured("cpu")
    steps, _ = _measured("train_step")
    rows = [(row["bar"], f"{row['value']:.2f}", row["limit"], "yes" if row["met"] else "no") for row in report["bars"]]
    for row in steps["rows"]:
        if row["network"] == "recnext_m1" and row["variant"] != "plain NCHW":
            met = "yes" if row["speedup"] >= 1.6 else "no"
            title = f"recnext_m1 training step, {row['variant']}, over plain"
            rows.append((title, f"{row['speedup']:.2f}", "≥ 1.6", met))
            if "recompute" in row["variant"]:
                met = "yes" if row["saved_ratio"] <= 0.45 else "no"
                rows.append(("recnext_m1, saved by RecConv, of plain", f"{row['saved_ratio']:.2f}", "≤ 0.45", met))
    return (
        f"{_table('ratio | measured | aimed at | reached', rows)}\n\n{where[:-1]}; {report['machine']['steadiness']}."
    )


def peers() -> str:
    """Our networks among peers of matched accuracy, from benchmarks/results/cpu_peers.json."""
    report, where = _measured("cpu_peers")
    found: dict[str, dict[str, Any]] = {}
    for row in report["rows"]:
        found.setdefault(row["model"], {"top1": row["top1"], "size": row["top1_size"]})[row["backend"]] = row
    backends = list(dict.fromkeys(row["backend"] for row in report["rows"]))
    precisions = {row["backend"]: row["precision"] for row in report["rows"]}
    ordered = sorted(found.items(), key=lambda item: -(item[1]["top1"] or 0.0))
    rows = (
        (
            f"**{name}**" if name.startswith("recnext") else name,
            f"{row['top1']:.1f}" + ("" if row["size"] in (None, report["size"]) else f" @{row['size']}"),
            *(f"{row[backend]['latency_ms']:.1f}" for backend in backends),
            *(f"{row[backend]['images_per_second']:.0f}" for backend in backends),
        )
        for name, row in ordered
    )
    titles = [f"{backend} {precisions[backend]}" for backend in backends]
    header = " | ".join(["network | top-1", *(f"{t}, ms" for t in titles), *(f"{t}, images/s" for t in titles)])
    return f"{_table(header, rows)}\n\nBatch 1, and the best batch for images/s; {report['size']} px. {where}"


def _measured(name: str) -> tuple[dict[str, Any], str]:
    """A file of benchmarks/results and the sentence that says where it was measured."""
    report = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    machine = report.get("machine") or report["conditions"]["machine"]
    where = f"{machine['processor']} ({machine['instructions']}), {machine['threads']} threads"
    return report, f"{where.replace('1 threads', '1 thread')}; torch {machine['versions']['torch']}."


def profile() -> str:
    """Where OpenVINO spends the time of networks of equal accuracy."""
    report, where = _measured("cpu_profile")
    networks = report["networks"]
    kinds = list(next(iter(networks.values()))["milliseconds"])
    rows = [
        (
            kind,
            *(
                f"{found['milliseconds'][kind]:.2f} ({found['operations'][kind]})" if found["operations"][kind] else ""
                for found in networks.values()
            ),
        )
        for kind in kinds
    ]
    rows.append(("all", *(f"{sum(found['milliseconds'].values()):.2f}" for found in networks.values())))
    table = _table(" | ".join(["ms (operations)", *networks]), rows)
    return f"{table}\n\nOpenVINO, float32, batch 1 at {report['size']}, medians of its counters. {where}"


def load() -> str:
    """What the server answers under load."""
    report, where = _measured("serve")
    rows = (
        (
            str(row["largest_batch"]),
            str(row["clients"]),
            f"{row['requests_per_second']:.0f}",
            *(f"{row[key]:.0f}" for key in ("p50", "p95", "p99")),
            str(row["failed"]),
        )
        for row in report["rows"]
    )
    table = _table("largest batch | clients | requests/s | p50, ms | p95, ms | p99, ms | failed", rows)
    return f"{table}\n\n{report['served']}, JPEGs of 500x375, clients on the same processors. {where}"


def soak() -> str:
    """How the server stands many requests."""
    report, where = _measured("serve_soak")
    rows = [
        ("requests, clients", f"{report['requests']:,}, {report['clients']}"),
        ("answers to another image, other failures", f"{report['wrong']}, {report['failed']}"),
        ("damaged images among them, refused", f"{report['refused']:,}"),
        ("requests/s", f"{report['requests_per_second']:.0f}"),
        ("p50, p99, ms", f"{report['p50']:.0f}, {report['p99']:.0f}"),
        ("memory after a tenth, at the end, MiB", f"{report['memory_mib'][1]:.0f}, {report['memory_mib'][-1]:.0f}"),
    ]
    return f"{_table('soak | ', rows)}\n\n{report['served']}, clients on the same processors; {report['load']}. {where}"


def pipeline() -> str:
    """Images that a core prepares in a second."""
    report, where = _measured("input_pipeline")
    ratios = report["ratio_to_published"]
    rows = ((name, f"{rate:.0f}", f"{ratios[name]:.2f}") for name, rate in report["images_per_core_second"].items())
    table = _table("pipeline | images/s a core | ratio", rows)
    return f"{table}\n\nJPEGs of 500x375 to 224 pixels, the published recipe's augmentation, in turns. {where}"


def steps() -> str:
    """Time of a training step."""
    report, where = _measured("train_step")
    rows = (
        (
            f"`{row['network']}`, {row['variant']}",
            f"{row['seconds']:.2f}",
            f"{row['speedup']:.2f}",
            f"{row['images_per_second']:.1f}",
            "" if row.get("saved_ratio") is None else f"{row['saved_ratio']:.2f}",
        )
        for row in report["rows"]
    )
    table = _table("step | seconds | times plain | images/s | RecConv saves, of plain", rows)
    return f"{table}\n\nBatch {report['conditions']['batch']} at 224, float32, in turns. {where}"


def segmenter() -> str:
    """Inference of a segmenter."""
    report, where = _measured("segmentation")
    rows = ((row["variant"], f"{row['milliseconds']:.0f}", f"{row['speedup']:.2f}") for row in report["rows"])
    table = _table("Semantic FPN, `recnext_m3` | ms | times the first", rows)
    return f"{table}\n\nOne image of 512x512, float32, in turns. {where}"


TABLES: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        networks,
        classification,
        robustness,
        mlla,
        coco,
        ade20k,
        speed,
        ratios,
        profile,
        peers,
        load,
        soak,
        pipeline,
        steps,
        segmenter,
    )
}


def filled(text: str) -> str:
    """A page with its tables written anew."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]()}\n{place[3]}", text)


def stale() -> dict[Path, str]:
    """The pages whose tables are not what they would be now, and their new text."""
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    return {page: fresh for page, text in texts.items() if (fresh := filled(text)) != text}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    pages = stale()
    for page, text in pages.items():
        if check:
            print(f"{page.relative_to(ROOT)} is stale: run python benchmarks/write_tables.py", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
    return int(check and bool(pages))


if __name__ == "__main__":
    sys.exit(main())
