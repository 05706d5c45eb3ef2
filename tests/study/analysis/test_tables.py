"""The tables of docs/analysis.md and docs/recconv.md are what the results and the code say now."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_tables_are_fresh() -> None:
    script = ROOT / "benchmarks" / "analysis_tables.py"
    spec = importlib.util.spec_from_file_location("analysis_tables", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    used = "".join(page.read_text(encoding="utf-8") for page in module.PAGES)
    for name in module.TABLES:
        assert f"<!-- {name}: written by benchmarks/analysis_tables.py -->" in used
    assert not module.stale(), "run python benchmarks/analysis_tables.py"
