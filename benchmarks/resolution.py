"""Time and memory of token mixers from 128 to 1024 pixels: the table and the picture of docs/benchmarking.md.

python benchmarks/resolution.py [--quick]
"""

import sys
from pathlib import Path

from recnext.cli.bench import run

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "bench-resolution.png"

if __name__ == "__main__":
    RESULTS.mkdir(exist_ok=True)
    sys.exit(
        run(
            resolution=True,
            threads=1,  # the cost itself, without how well it is spread over cores
            quick="--quick" in sys.argv[1:],
            output=RESULTS / "cpu_resolution.csv",
            plot=PICTURE,
        )
    )
