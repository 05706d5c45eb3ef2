"""Every Python and shell block of docs/*.md runs as it stands, page by page, or says why it does not.

A block is left out by a comment on the line before it, ``<!-- not run: the reason -->``. To run it smaller than it
is printed, ``<!-- run as: recnext_m1 → test_recnext_m; --epochs 300 → --epochs 1 -->`` replaces text first. The
Python blocks of a page share their names, as a reader would type them. The sandbox holds ``photo.jpg``, the digits as
``DATA/train`` and ``DATA/val``, and ``runs/mine``, a run of ``test_recnext_m`` on them.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
from PIL import Image

from recnext.cli.main import dispatch
from recnext.study.demo.digits import write_folders

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
_BLOCK = re.compile(r"(?:<!-- (not run|run as): (.+?) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    reason: Optional[str]  # why it is not run

    def lines(self) -> list[str]:
        return self.text.replace("\\\n", " ").splitlines()


def blocks(page: Path) -> Iterator[Block]:
    for kind, note, language, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language not in ("python", "shell"):
            continue
        if kind == "run as":
            for old, new in (pair.split(" → ") for pair in note.split("; ")):
                assert old.strip() in text, f"{page.name}: nothing to replace: {old!r}"
                text = text.replace(old.strip(), new.strip())
        yield Block(language, text, note if kind == "not run" else None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    write_folders(folder / "DATA", per_class=3)
    Image.radial_gradient("L").convert("RGB").save(folder / "photo.jpg")
    train = f"train {folder / 'DATA'} --model test_recnext_m --image-size 32 --epochs 1 --batch-size 10 --workers 0"
    assert dispatch([*shlex.split(train), "--device", "cpu", "--output", str(folder / "runs" / "mine")]) == 0
    return folder


@pytest.fixture
def sandbox(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.usefixtures("sandbox")
def test_blocks_run(page: Path) -> None:
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page)):
        if block.reason is not None:
            assert len(block.reason) > 10, f"{page.name}: say why block {number} is not run"
        elif block.language == "python":
            exec(compile(block.text, f"{page.name}, block {number}", "exec"), names)
        else:
            for line in block.lines():
                program, *arguments = shlex.split(line, comments=True) or [""]
                assert program == "recnext", f"{page.name}: {line!r} is not ours; mark it <!-- not run: why -->"
                assert dispatch(arguments) == 0, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_exist(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", prose):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_flags_of_the_migration_page_exist() -> None:
    """What stands in the right column of the options' table are flags of `recnext train`."""
    from dataclasses import fields

    from recnext.tasks.classification.settings import TrainSettings

    page = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`--.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert len(rows) > 30
    known = {field.name for field in fields(TrainSettings)} | {"config", "fused"}
    for old, new in rows:
        source = old if new == "the same" else new
        for flag in re.findall(r"--([a-z_-]+)", source):
            assert flag.removeprefix("no-").replace("-", "_") in known, f"{flag} (of the row {old})"
