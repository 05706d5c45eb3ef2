"""Each example runs, shortened: it reads its data, trains every mixer and prints the table."""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from torch import nn

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sktime") is None, reason="the outlines come with sktime")
def test_leaf_outlines(capsys: pytest.CaptureFixture[str]) -> None:
    example = import_module("leaf_outlines")
    (x, y), (x_test, y_test) = example.load("TRAIN"), example.load("TEST")
    assert (x.shape, x_test.shape) == ((200, 1, 427), (242, 1, 427))
    assert sorted(y.unique().tolist()) == sorted(y_test.unique().tolist()) == list(range(6))
    assert {parameters(mixer(8)) for mixer, _ in example.MIXERS.values()} == {25 * 8}
    results = example.main(seeds=1, epochs=2)
    assert all(0 < values[0] <= 1 for values in results.values())
    assert "depthwise 25" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nilearn") is None, reason="the brain comes with nilearn")
def test_brain_volume(capsys: pytest.CaptureFixture[str]) -> None:
    example = import_module("brain_volume")
    scan, labels = example.load()
    assert scan.shape == labels.shape == (49, 61, 52)
    assert abs(float(scan.std()) - 1) < 0.2
    assert labels.unique().tolist() == [0, 1, 2]
    example.SIZE = 16
    results = example.main(seeds=1, steps=4)
    assert results.keys() == example.MIXERS.keys()
    assert all(0 <= values[0] <= 1 for values in results.values())
    assert "ICBM 152" in capsys.readouterr().out


def test_convert_families(capsys: pytest.CaptureFixture[str]) -> None:
    example = import_module("convert_families")
    example.main(("starnet_s1",))
    assert "starnet_s1" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nbclient") is None, reason="notebooks are run by nbclient")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer digits and one epoch; the cell that installs is left out."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if "install" not in cell.metadata.get("tags", ())]
    shorter = {"per_class = 100": "per_class = 8", "--epochs 4": "--epochs 1", "--batch-size 64": "--batch-size 16"}
    for old, new in shorter.items():
        assert sum(old in cell.source for cell in cells) == 1
        for cell in cells:
            cell.source = cell.source.replace(old, new)
    notebook.cells = cells
    # The kernel's shell finds the command of the environment that runs the tests.
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    monkeypatch.setenv("RECNEXT_CACHE", str(tmp_path / "cache"))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in cells if cell.cell_type == "code" for output in cell.outputs)
    assert "best top-1" in printed
    assert "largest difference" in printed
    assert (tmp_path / "runs" / "digits" / "curves.png").is_file()
