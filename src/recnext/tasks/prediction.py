"""What a network says of images and videos, and the pictures and lists it leaves of them."""

import logging
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, Union
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from recnext.data.download import is_url
from recnext.data.images import Unreadable, UnreadableImageError, open_image
from recnext.data.video import VideoReader, VideoWriter
from recnext.errors import RecNextError
from recnext.files import MARK, open_atomically, require_output, require_outputs, write_atomically
from recnext.text import to_json

_LOG = logging.getLogger("recnext")

LIST_MARK = '"image_id"'
"""Stands in every list of what was found."""

OnFrames = Callable[[str, int, int], None]
"""Called with a video, the number of its frames that are done, and that of all, 0 where it does not say."""


@dataclass(frozen=True)
class Predicted:
    """An image or a video with what was found in it.

    Attributes:
        image: path or address.
        text: for people.
        facts: plain values by name.
    """

    image: str
    text: str
    facts: Mapping[str, Any]


class Predictor(Protocol):
    """A network that finds something in pictures, uint8 (H, W, 3), RGB.

    Attributes:
        key: of what is found, in JSON and as the name of its list.
        suffixes: of the files of an image behind its name, the picture first.
    """

    key: str
    suffixes: tuple[str, ...]

    def __call__(self, pixels: np.ndarray) -> Any:
        """What is in a picture."""
        ...

    def draw(self, pixels: np.ndarray, found: Any) -> Image.Image:
        """The picture with what was found."""
        ...

    def draw_frame(self, pixels: np.ndarray, found: Any) -> np.ndarray:
        """The same for a video, uint8 of the picture's shape."""
        ...

    def save(self, found: Any, paths: Sequence[Path]) -> dict[str, str]:
        """Writes the further files of an image; gives what they are and where."""
        ...

    def entries(self, found: Any) -> list[dict[str, Any]]:
        """What was found, plain values."""
        ...

    def describe(self, entries: Sequence[Mapping[str, Any]]) -> str:
        """The same for people."""
        ...


def predict_files(
    predictor: Predictor,
    images: Sequence[str],
    videos: Sequence[str],
    *,
    folder: Path,
    on_frames: OnFrames,
    overwrite: bool = False,
) -> Iterator[Union[Predicted, Unreadable]]:
    """Predicts, draws and lists images and videos, in order; what cannot be read is given with the reason.

    Args:
        predictor: of the task.
        images: paths and addresses.
        videos: paths.
        folder: for a picture of each, ``NAME.png`` or ``NAME.mp4``, and a list of everything, ``KEY.json``.
        on_frames: for progress.
        overwrite: whether files of other programs may be replaced, where else a name with a number is taken.

    Raises:
        RecNextError: there is another list in the folder.
        MissingExtraError: there are videos, and PyAV is not installed.
        OSError: a file cannot be written.
    """
    listing = folder / f"{predictor.key}.json"
    require_outputs(folder, [listing.name], overwrite=overwrite or is_empty_list(listing), mark=LIST_MARK)
    folder.mkdir(parents=True, exist_ok=True)
    names = FreeNames(folder, [*images, *videos], overwrite=overwrite)
    with json_list(listing) as add:
        number = 0
        for number, image in enumerate(images, 1):
            try:
                pixels = np.array(open_image(image))
            except UnreadableImageError as error:
                yield Unreadable(image, str(error))
                continue
            found = predictor(pixels)
            entries = predictor.entries(found)
            for entry in entries:
                add({"image_id": number, "file_name": image, **entry})
            picture, *others = names.paths(image, predictor.suffixes)
            save_png(predictor.draw(pixels, found), picture)
            files = {"drawn": str(picture), **predictor.save(found, others)}
            yield Predicted(image, predictor.describe(entries), {**files, predictor.key: entries})
        for video in videos:
            [path] = names.paths(video, (".mp4",))
            frames = 0
            try:
                for entries in _film(predictor, Path(video), path, on_frames):
                    frames += 1
                    for entry in entries:
                        add({"image_id": number + frames, "file_name": video, "frame": frames, **entry})
                yield Predicted(video, f"{frames} frames in {path}", {"drawn": str(path), "frames": frames})
            except UnreadableImageError as error:
                yield Unreadable(video, str(error))
            number += frames


def _film(predictor: Predictor, source: Path, path: Path, on_frames: OnFrames) -> Iterator[list[dict[str, Any]]]:
    """Writes a drawn video; gives what is in each frame."""
    part = path.with_name(f".{path.stem}.part.mp4")
    try:
        with VideoReader(source) as reader, VideoWriter(part, rate=reader.rate) as writer:
            for number, frame in enumerate(reader, 1):
                found = predictor(frame)
                writer.write(predictor.draw_frame(frame, found))
                yield predictor.entries(found)
                on_frames(str(source), number, reader.frames)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class FreeNames:
    """Names for what is made of images: no two are one, whatever the case or the form of their letters, and none is
    an image's own, or that of a file of another program.

    Args:
        folder: of the files.
        sources: the images, paths and addresses.
        overwrite: whether files of other programs may be replaced; an image never is.
    """

    def __init__(self, folder: Path, sources: Iterable[str], *, overwrite: bool = False) -> None:
        self.folder = folder
        self.overwrite = overwrite
        own = folder.resolve()
        paths = (Path(source) for source in sources if not is_url(source))
        self._inputs = {_key(path.name) for path in paths if path.parent.resolve() == own}
        self._given: set[str] = set()

    def paths(self, source: str, suffixes: Sequence[str]) -> list[Path]:
        """Files of the source's name, a suffix each; a number is added where one of them is taken."""
        stem = Path(urlsplit(source).path if is_url(source) else source).stem or "image"
        name, number = stem, 1
        while self._given & {_key(name + suffix) for suffix in suffixes} or not self._may_write(name, suffixes):
            number += 1
            name = f"{stem}_{number}"
        if name != stem and not self._may_write(stem, suffixes):
            _LOG.warning(f"{self.folder / stem}{suffixes[0]} is not replaced: {name}{suffixes[0]} is written")
        self._given |= {_key(name + suffix) for suffix in suffixes}
        return [self.folder / f"{name}{suffix}" for suffix in suffixes]

    def _may_write(self, name: str, suffixes: Sequence[str]) -> bool:
        if self._inputs & {_key(name + suffix) for suffix in suffixes}:
            return False
        try:
            for suffix in suffixes:
                require_output(self.folder / f"{name}{suffix}", overwrite=self.overwrite)
        except RecNextError:
            return False
        return True


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG that says who wrote it.

    Raises:
        OSError: it cannot be written.
    """
    info = PngInfo()
    info.add_text("Software", MARK)
    content = BytesIO()
    image.save(content, format="PNG", pnginfo=info)
    write_atomically(path, content.getvalue())


def is_empty_list(path: Path) -> bool:
    """Whether a file holds an empty JSON list, which has no mark."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size < 4


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


@contextmanager
def json_list(path: Path) -> Iterator[Callable[[Any], None]]:
    """Opens a file for a JSON list and gives the function that adds a value; it appears once all are written.

    Raises:
        OSError: it cannot be written.
    """
    with open_atomically(path) as file, json_lines(file.write) as add:
        yield add


@contextmanager
def json_lines(write: Callable[[str], Any]) -> Iterator[Callable[[Any], None]]:
    """Writes a JSON list, a value a line, and never holds more than one; an error leaves it open."""
    between = "["

    def add(value: Any) -> None:
        nonlocal between
        write(between + to_json(value))
        between = ",\n "

    yield add
    write("[]\n" if between == "[" else "]\n")
