"""The load of benchmarks/serve_load.py, briefly."""

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "serve_load.py"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("serve_load", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "serve_load", module)  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_clients_are_all_answered_and_share_batches(server, script):
    images = script.photos(2)
    row = asyncio.run(script.load(server.port, images, clients=6, seconds=0.5, largest_batch=8))
    assert row.failed == 0
    assert row.requests == sum(row.batches.values()) >= 6
    assert 1 < row.mean_batch <= 8
    assert 0 < row.p50 <= row.p95 <= row.p99
    machine = {"processor": "x", "instructions": "y", "threads": 1, "versions": {}}
    result = {"machine": machine, "served": "z", "image_bytes": 9, "seconds": 0.5, "rows": [vars(row)]}
    assert f"| 8 | 6 | {row.requests_per_second:.0f} | " in script.as_markdown(result)
