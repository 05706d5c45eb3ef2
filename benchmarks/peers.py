"""Our networks and timm's peers in ONNX Runtime and OpenVINO: the table and the picture of docs/benchmarking.md.

python benchmarks/peers.py [--quick]
"""

import sys
from pathlib import Path

from recnext.cli.bench import run

RESULTS = Path(__file__).parent / "results"

if __name__ == "__main__":
    RESULTS.mkdir(exist_ok=True)
    sys.exit(
        run(
            backend="onnxruntime,openvino",
            quick="--quick" in sys.argv[1:],
            output=RESULTS / "cpu_peers.csv",
            plot=RESULTS / "cpu_peers.png",
        )
    )
