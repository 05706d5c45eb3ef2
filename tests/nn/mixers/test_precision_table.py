"""docs/recconv.md's table of errors is what benchmarks/precision.py measures."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("precision", ROOT / "benchmarks" / "precision.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_the_stored_results(script):
    rows = json.loads(script.RESULTS.read_text(encoding="utf-8"))["rows"]
    assert script.table(rows) in script.PAGE.read_text(encoding="utf-8"), "run python benchmarks/precision.py"
    assert [(row["scale"], row["level"]) for row in rows] == [(s, level) for s in script.SCALES for level in range(6)]


@pytest.mark.parametrize(("scale", "level"), [(1, 3), (4, 5)])
def test_measuring_again_gives_the_same(script, scale, level):
    rows = json.loads(script.RESULTS.read_text(encoding="utf-8"))["rows"]
    stored = next(row for row in rows if (row["scale"], row["level"]) == (scale, level))
    again = script.measure(level, scale)
    assert again["largest"] == pytest.approx(stored["largest"], rel=1e-6)
    for form, value in again["errors"].items():
        if math.isinf(value):
            assert math.isinf(stored["errors"][form])
        else:  # kernels of other processors round otherwise
            assert stored["errors"][form] / 2 < value < stored["errors"][form] * 2
