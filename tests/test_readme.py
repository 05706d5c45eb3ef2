"""README.md's Python and commands run as they stand, against a hub cache made on the spot."""

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from recnext.cli.main import dispatch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WEIGHTS = ["recnext_m1.dist_300e_in1k", "recnext_a1.dist_300e_in1k", "recnext_t.base_300e_in1k"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache as a download leaves it, with random weights."""
    cache = tmp_path_factory.mktemp("hub")
    for tagged in WEIGHTS:
        repository = cache / f"models--suous--{tagged}"
        snapshot = repository / "snapshots" / "0" / "model.safetensors"
        snapshot.parent.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0")
        torch.manual_seed(0)
        state = timm.create_model(tagged.split(".")[0]).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, snapshot)
    return cache


@pytest.fixture(autouse=True)
def offline(hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub_cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("RECNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_runs(number: int) -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[number], f"README.md, Python block {number}", "exec"), names)
    if "logits" in names:
        assert names["logits"].shape == (1, 1000)
        expected = names["model"](torch.zeros(1, 3, 224, 224))
        actual = names["fast"](torch.zeros(1, 3, 224, 224))
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


def test_first_command_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "photo.jpg")
    *installs, predict = blocks("shell")[0].splitlines()
    assert [line.split("#")[0].strip() for line in installs] == ["pip install recnext", "pip install 'recnext[train]'"]
    assert dispatch(shlex.split(predict)[1:]) == 0
    assert "photo.jpg" in capsys.readouterr().out


def test_fine_tuning_commands_run(tmp_path: Path) -> None:
    """On a ninth of the digits, with a tiny network: names and flags are README's."""
    from recnext.study.demo.digits import Digits

    for split in ("train", "val"):
        digits = Digits(split)
        for index in [i for label in range(10) for i in range(len(digits.labels)) if digits.labels[i] == label][::9]:
            image, label = digits.images[index], digits.labels[index]
            folder = tmp_path / "DATA" / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    small = {
        "recnext_m1": "test_recnext_m",
        "--pretrained": "",
        "--epochs 30": "--epochs 1 --image-size 32 --workers 0",
    }
    for line in blocks("shell")[1].splitlines():
        for text, replacement in small.items():
            line = line.replace(text, replacement)
        program, *arguments = shlex.split(line)
        assert program == "recnext"
        assert dispatch(arguments) == 0, line
    for name in ("best.safetensors", "last.safetensors", "metrics.jsonl", "config.yaml", "summary.json"):
        assert (tmp_path / "runs" / "mine" / name).is_file()
    assert (tmp_path / "mine.safetensors").is_file()


def test_tables_are_fresh_here_and_in_the_docs() -> None:
    script = ROOT / "benchmarks" / "write_tables.py"
    spec = importlib.util.spec_from_file_location("write_tables", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.stale(), "run python benchmarks/write_tables.py"
    assert module.filled(README.replace("| 78.0 |", "| 87.0 |")) == README


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
