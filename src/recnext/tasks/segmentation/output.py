"""Files that evaluation and prediction leave."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from rich.progress import Progress

from recnext.data.download import is_url
from recnext.data.video import VideoReader, VideoWriter

from .draw import colour_mask, draw_prediction, overlay
from .metrics import SegmentationResult
from .predict import Segmented, Segmenter


def write_result(
    folder: Path, facts: Mapping[str, Any], result: SegmentationResult, class_names: tuple[str, ...]
) -> None:
    """Writes ``result.json`` and ``per_class.csv``; absent classes have empty cells.

    Args:
        folder: made where missing.
        facts: of the evaluation.
        result: its numbers.
        class_names: in the order of the classes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    pixels = result.confusion.sum(1).tolist()
    with (folder / "per_class.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("class", "name", "iou", "accuracy", "pixels"))
        rows = zip(class_names, result.iou.tolist(), result.accuracy.tolist(), pixels, strict=True)
        for index, (name, iou, accuracy, count) in enumerate(rows):
            shown = ["" if value != value else f"{value:.4f}" for value in (iou, accuracy)]
            writer.writerow((index, name, *shown, count))


class ImageWriter:
    """Writes overlays and masks under names of their own.

    Args:
        folder: made where missing.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._taken: set[str] = set()

    def write(self, result: Segmented) -> dict[str, Any]:
        """Writes ``NAME.png``, the overlay, and ``NAME_mask.png``, the class numbers.

        Returns:
            Image, files and classes with their shares, for JSON.
        """
        drawn = self.path(result.image, ".png")
        mask = drawn.with_name(f"{drawn.stem}_mask.png")
        draw_prediction(result.pixels, result.labels, result.class_names).save(drawn)
        colour_mask(result.labels, len(result.class_names)).save(mask)
        return {
            "image": result.image,
            "drawn": str(drawn),
            "mask": str(mask),
            "classes": [
                {"index": label, "name": result.class_names[label], "share": round(share, 6)}
                for label, share in result.shares
            ],
        }

    def path(self, source: str, suffix: str) -> Path:
        """A file of the source's name that no other source of this run has."""
        stem = Path(urlsplit(source).path if is_url(source) else source).stem or "image"
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return self.folder / f"{name}{suffix}"


def write_video(
    segmenter: Segmenter, video: Path, writer: ImageWriter, *, progress: Optional[Progress] = None
) -> dict[str, Any]:
    """Writes ``NAME.mp4``, every frame with its classes drawn over it.

    Returns:
        Video, file and number of frames, for JSON.

    Raises:
        UnreadableImageError: the video cannot be read, or PyAV is missing.
    """
    path = writer.path(str(video), ".mp4")
    frames = 0
    with VideoReader(video) as reader, VideoWriter(path, rate=reader.rate) as output:
        bar = None if progress is None else progress.add_task("", total=reader.frames or None)
        for frame in reader:
            output.write(overlay(frame, segmenter(frame), num_classes=len(segmenter.class_names)))
            frames += 1
            if progress is not None and bar is not None:
                progress.advance(bar)
    return {"image": str(video), "drawn": str(path), "frames": frames}
