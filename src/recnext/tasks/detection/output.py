"""Files that evaluation and prediction leave."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from rich.progress import Progress

from recnext.data.download import is_url
from recnext.data.video import VideoReader, VideoWriter

from .draw import draw_detections
from .evaluate import DetectionResult
from .predict import Detected, Finder


def write_result(folder: Path, facts: Mapping[str, Any], result: DetectionResult, class_names: tuple[str, ...]) -> None:
    """Writes ``result.json``, ``per_class.csv`` and ``detections.json`` (a COCO results file).

    Args:
        folder: made where missing.
        facts: of the evaluation.
        result: its numbers; classes without objects get empty cells.
        class_names: in the order of the labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "detections.json").write_text(json.dumps(result.detections) + "\n", encoding="utf-8")
    kinds = [("box", result.box), *([] if result.mask is None else [("mask", result.mask)])]
    with (folder / "per_class.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("class", *(f"{kind}_{name}" for kind, _ in kinds for name in ("ap", "ap50"))))
        for index, name in enumerate(class_names):
            values = [value for _, part in kinds for value in (part.per_class[index], part.per_class50[index])]
            writer.writerow((name, *("" if value != value else f"{value:.2f}" for value in values)))


class DrawingWriter:
    """Writes drawn images under names of their own.

    Args:
        folder: made where missing.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._taken: set[str] = set()

    def write(self, detected: Detected, class_names: tuple[str, ...]) -> Path:
        """Writes ``NAME.png``."""
        path = self.path(detected.image, ".png")
        draw_detections(detected.pixels, detected.found, class_names).save(path)
        return path

    def path(self, source: str, suffix: str) -> Path:
        """A file of the source's name that no other source of this run has."""
        stem = Path(urlsplit(source).path if is_url(source) else source).stem or "image"
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return self.folder / f"{name}{suffix}"


def write_video(finder: Finder, source: Path, writer: DrawingWriter, *, progress: Progress) -> tuple[Path, int]:
    """Writes ``NAME.mp4`` with the detections drawn.

    Returns:
        The file and the number of frames.

    Raises:
        MissingExtraError: PyAV is not installed.
        UnreadableImageError: the video cannot be read.
    """
    path = writer.path(str(source), ".mp4")
    frames = 0
    with VideoReader(source) as video, VideoWriter(path, rate=video.rate) as out:
        bar = progress.add_task(source.name, total=video.frames or None)
        for frame in video:
            out.write(np.asarray(draw_detections(frame, finder(frame), finder.class_names)))
            frames += 1
            progress.advance(bar)
    return path, frames
