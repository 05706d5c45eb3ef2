"""The load of benchmarks/serve_soak.py: 600 requests of 16 clients, or RECNEXT_SOAK of them of 64 clients."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serve_soak.py"
FULL = int(os.environ.get("RECNEXT_SOAK", "0"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
def test_everyone_gets_the_own_answer_and_memory_stays_level(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("serve_soak", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = script.measure("test_recnext_m", requests=FULL or 600, clients=64 if FULL else 16)
    assert (found["wrong"], found["failed"]) == (0, 0)
    assert found["refused"] == found["requests"] // 10
    settled, *_, last = found["memory_mib"][1:]
    assert last < 1.1 * settled + 30
