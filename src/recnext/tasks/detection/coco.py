"""Reading COCO annotation files: what is wrong is named, and only what is harmless is passed over, with counts."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recnext.data.labelled import require_utf8
from recnext.data.listing import as_composed
from recnext.errors import RecNextError
from recnext.text import read_json

from .rle import decode_rle, mask_tools, run_lengths

_MOST_PIXELS = 10**9  # of an image
_MARGIN = 1000  # pixels that a polygon may reach beyond twice its image
_SMALLEST = 1.0  # pixels that a box to learn from has at least, as published


@dataclass(frozen=True)
class CocoObject:
    """An annotation to learn from.

    Attributes:
        box: x1, y1, x2, y2 in pixels, inside the image.
        label: from 1, by ascending category id.
        segmentation: polygons or RLE as in the file; None where masks are not used.
        crowd: many objects under one annotation.
    """

    box: tuple[float, float, float, float]
    label: int
    segmentation: Any
    crowd: bool


@dataclass(frozen=True)
class CocoImage:
    """An image and its objects."""

    id: int
    file: str
    width: int
    height: int
    objects: list[CocoObject] = field(default_factory=list)


@dataclass(frozen=True)
class CocoFile:
    """A whole annotation file.

    Attributes:
        path: of the file.
        images: in its order.
        class_names: by ascending category id; label 1 is the first.
        category_ids: the same.
        ground_truth: the file's content, completed so that COCO evaluation takes it; annotations are numbered anew.
        passed_over: what was wrong but harmless, and how often.
    """

    path: Path
    images: list[CocoImage]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    ground_truth: dict[str, Any]
    passed_over: Counter[str]

    @property
    def notes(self) -> list[str]:
        """What was passed over, a line each."""
        return [f"{self.path.name}: {count} {what}" for what, count in self.passed_over.items()]


def read_coco(path: Path, *, masks: bool) -> CocoFile:
    """Reads and checks an annotation file.

    Annotations without id get one, boxes that reach outside their image are cut off, and boxes under a pixel are left
    out of training; each is counted.

    Args:
        path: of the JSON file.
        masks: whether masks are needed; without, segmentations are not looked at.

    Raises:
        RecNextError: no JSON, or a record that lacks something or points nowhere; names the record.
    """
    content = _read(path)
    categories = _categories(content, path)
    images = _images(content, path)
    labels = {identifier: label for label, identifier in enumerate(sorted(categories), start=1)}
    passed_over: Counter[str] = Counter()
    annotations = []
    seen: set[Any] = set()
    for index, record in enumerate(content["annotations"]):
        where = _where(path, "annotations", index, record)
        if not isinstance(record, Mapping):
            raise RecNextError(f"{where} is {record!r:.40}, not a record")
        record = dict(record)
        identifier = record.get("id")
        if identifier is None:
            passed_over["annotations without id: numbered"] += 1
        elif not _is_id(identifier):
            raise RecNextError(f"{where}: an id is a whole number or text, not {identifier!r:.40}")
        elif identifier in seen:
            raise RecNextError(f"{where}: id {identifier} is used twice; ids must differ")
        else:
            seen.add(identifier)
        record["id"] = index + 1  # evaluation needs whole numbers above 0: it takes 0 for "unmatched"
        image_id, category_id = record.get("image_id"), record.get("category_id")
        image = images.get(image_id) if _is_id(image_id) else None
        if image is None:
            raise RecNextError(f"{where}: image_id {image_id!r:.40} is no image of the file")
        if not _is_id(category_id) or category_id not in categories:
            known = ", ".join(map(str, sorted(categories)[:8]))
            raise RecNextError(f"{where}: category_id {category_id!r:.40} is unknown; the file has {known}")
        box = _box(record, where)
        if masks:
            check_segmentation(record.get("segmentation"), image, where)
        record["iscrowd"] = _crowd(record, where)
        record["area"] = _area(record, box, where)
        annotations.append(record)
        inside = _inside(box, image, passed_over)
        if inside is not None:
            segmentation = record.get("segmentation") if masks else None
            image.objects.append(CocoObject(inside, labels[category_id], segmentation, bool(record["iscrowd"])))
    ids = tuple(sorted(categories))
    ground_truth = {**content, "annotations": annotations}
    ground_truth.setdefault("info", {})
    return CocoFile(path, list(images.values()), tuple(categories[i] for i in ids), ids, ground_truth, passed_over)


def decode_segmentation(segmentation: Any, *, height: int, width: int) -> np.ndarray:
    """Polygons, or RLE of either kind, as bool (height, width).

    Raises:
        MissingExtraError: polygons, and faster-coco-eval is not installed.
    """
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation)
    tools = mask_tools()
    return np.asarray(tools.decode(tools.merge(tools.frPyObjects(segmentation, height, width)))).astype(bool)


def check_segmentation(segmentation: Any, image: CocoImage, where: str) -> None:
    """Raises RecNextError unless it is RLE of the image's size, or polygons of three points or more."""
    if isinstance(segmentation, Mapping):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if not isinstance(size, (list, tuple)) or list(size) != [image.height, image.width]:
            raise RecNextError(
                f"{where}: its RLE is of size {size}, its image {image.file} {[image.height, image.width]} (H, W)"
            )
        if not isinstance(counts, (list, str)):
            raise RecNextError(f"{where}: its RLE has counts {type(counts).__name__}; expected a list or a string")
        try:
            covered = int(run_lengths(counts).sum())
        except RecNextError as error:
            raise RecNextError(f"{where}: {error}") from None
        if covered != image.height * image.width:
            raise RecNextError(f"{where}: its RLE covers {covered} pixels, its image has {image.height * image.width}")
        return
    if not isinstance(segmentation, list) or not segmentation:
        raise RecNextError(f"{where} has no segmentation: train and evaluate boxes alone with --no-masks")
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not _finite(polygon):
            raise RecNextError(f"{where}: a polygon is an even number of coordinates, 6 or more, not {polygon!r:.60}")
        if max(map(abs, polygon)) > 2 * max(image.width, image.height) + _MARGIN:
            raise RecNextError(f"{where}: a polygon reaches {max(map(abs, polygon)):g} pixels, far out of its image")


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path, "a COCO annotation file")
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(content.get(key), list)]
    if missing:
        raise RecNextError(
            f"{path} is no COCO annotation file: expected lists images, annotations, categories; it lacks "
            f"{', '.join(missing)}"
        )
    return content


def _where(path: Path, kind: str, index: int, record: Any) -> str:
    """The record in words: its id where it has one."""
    identifier = record.get("id") if isinstance(record, Mapping) else None
    return f"{path}: {kind}[{index}]" + ("" if identifier is None else f" (id {identifier})")


def _require(record: Any, where: str, **kinds: Any) -> None:
    for key, kind in kinds.items():
        value = record.get(key) if isinstance(record, Mapping) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            has = "has no" if value is None else f"has the {type(value).__name__} {value!r:.40} as"
            raise RecNextError(f"{where} {has} {key!r}")


def _categories(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for index, record in enumerate(content["categories"]):
        where = _where(path, "categories", index, record)
        _require(record, where, id=int, name=str)
        if not _is_id(record["id"]) or record["id"] in found:
            raise RecNextError(f"{where}: id {record['id']!r:.40} is used twice, or too large; ids must differ")
        found[record["id"]] = require_utf8(as_composed(record["name"]), f"a category of {path}")
    if not found:
        raise RecNextError(f"{path} has no categories: expected at least one, with id and name")
    return found


def _images(content: Mapping[str, Any], path: Path) -> dict[Any, CocoImage]:
    found: dict[Any, CocoImage] = {}
    for index, record in enumerate(content["images"]):
        where = _where(path, "images", index, record)
        _require(record, where, id=(int, str), file_name=str, width=int, height=int)
        if not _is_id(record["id"]) or record["id"] in found:
            raise RecNextError(f"{where}: id {record['id']!r:.40} is used twice, or too large; ids must differ")
        if min(record["width"], record["height"]) < 1 or record["width"] * record["height"] > _MOST_PIXELS:
            shown = f"{record['width']}x{record['height']}"
            raise RecNextError(
                f"{where} ({record['file_name']:.200}) is {shown:.40} pixels: expected a photograph's size"
            )
        found[record["id"]] = CocoImage(record["id"], record["file_name"], record["width"], record["height"])
    if not found:
        raise RecNextError(f"{path} lists no images")
    return found


def _is_id(value: Any) -> bool:
    """Whether a value is text, or a whole number of 64 bits."""
    return isinstance(value, str) or (type(value) is int and -(2**63) <= value < 2**63)


def _box(record: Mapping[str, Any], where: str) -> tuple[float, float, float, float]:
    box = record.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not _finite(box):
        raise RecNextError(f"{where}: bbox is {box!r:.60}; expected [x, y, width, height] in pixels")
    x, y, width, height = map(float, box)
    if width < 0 or height < 0:
        raise RecNextError(f"{where}: bbox {box} has a negative size; expected [x, y, width, height] in pixels")
    return x, y, width, height


def _finite(values: list[Any]) -> bool:
    """Whether all are numbers, none of them infinite or NaN."""
    try:
        return math.isfinite(sum(values, 0.0))
    except (TypeError, OverflowError):
        return False


def _crowd(record: Mapping[str, Any], where: str) -> int:
    value = record.get("iscrowd") or 0
    if value not in (0, 1):
        raise RecNextError(f"{where}: iscrowd is {value!r:.40}; expected 0 or 1")
    return int(value)


def _area(record: Mapping[str, Any], box: tuple[float, float, float, float], where: str) -> float:
    """That of the record, which decides whether an object is small; the box's where there is none."""
    value = record.get("area")
    if value is None:
        return box[2] * box[3]
    if not isinstance(value, (int, float)) or not _finite([value]) or value < 0:
        raise RecNextError(f"{where}: area is {value!r:.40}; expected a number of pixels")
    return float(value)


def _inside(
    box: tuple[float, float, float, float], image: CocoImage, passed_over: Counter[str]
) -> tuple[float, float, float, float] | None:
    """The part of a box in its image, as corners; None where that is under a pixel wide or high."""
    x, y, width, height = box
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, float(image.width)), min(y + height, float(image.height))
    if right - left < _SMALLEST or bottom - top < _SMALLEST:
        passed_over["boxes under a pixel, or wholly outside their image: not trained on"] += 1
        return None
    if min(x, y, image.width - x - width, image.height - y - height) < -_SMALLEST:
        passed_over["boxes that reach outside their image: cut off"] += 1
    return left, top, right, bottom
