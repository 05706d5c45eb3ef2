"""The documentation site builds without a warning, and the API pages hold what the docstrings say."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import recnext

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs comes with recnext[docs]")
def test_strict_build(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    for name in set(recnext.__all__) - {"__version__"}:
        assert re.search(rf'id="recnext\.(\w+\.)+{name}["\.]', api), f"docs/api.md leaves out {name}"  # or its parts
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or (tmp_path / page.stem / "index.html").is_file()
