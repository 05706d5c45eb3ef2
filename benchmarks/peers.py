"""Our networks and timm's peers in ONNX Runtime and OpenVINO: the table and the picture of docs/benchmarking.md.

    python benchmarks/peers.py [--quick]     # a quarter of an hour; writes results/cpu_peers.json and the picture

benchmarks/write_tables.py takes the table from there.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from recnext.cli.bench import run

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "bench-pareto.png"
SIZE = 224


def main() -> int:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = run(
            backend="onnxruntime,openvino",
            size=SIZE,
            quick="--quick" in sys.argv[1:],
            precision="fp32",
            json=True,
            plot=PICTURE,
        )
    report = {**json.loads(printed.getvalue()), "size": SIZE}
    (RESULTS / "cpu_peers.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
