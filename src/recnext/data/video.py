"""Frames of videos in and out, through PyAV (the `video` extra)."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from recnext.errors import MissingExtraError, RecNextError
from recnext.files import MARK

from .images import UnreadableImageError

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
# FFmpeg goes by the content: a list of other files or addresses may be called .mp4, too.
_FILES_ONLY = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"}


def is_video(path: str) -> bool:
    """True for names of video files."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def split_videos(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of images, and those of videos.

    Raises:
        RecNextError: a video is not there.
    """
    videos = [name for name in names if is_video(name)]
    for name in videos:
        if not Path(name).is_file():
            raise RecNextError(f"there is no file {name}")
    return [name for name in names if not is_video(name)], videos


class VideoReader:
    """The frames of a video, one after the other (a context manager).

    Args:
        path: of the file.

    Attributes:
        rate: frames a second.
        frames: how many the file says it holds; 0 where it does not say.

    Raises:
        MissingExtraError: PyAV is not installed.
        UnreadableImageError: there is no such file, or no video in it.
    """

    def __init__(self, path: Path) -> None:
        av = _av()
        if not path.is_file():
            raise UnreadableImageError(f"there is no file {path}")
        try:
            self._container = av.open(str(path), options=_FILES_ONLY)
            stream = self._container.streams.video[0]
        except (av.FFmpegError, IndexError):
            raise UnreadableImageError(f"{path} is no video that can be read") from None
        self.path = path
        self.rate = Fraction(stream.average_rate or 25)
        self.frames = int(stream.frames)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames as uint8 (H, W, 3), RGB.

        Raises:
            UnreadableImageError: the file is damaged or cut off at a frame.
        """
        av = _av()
        read = 0
        try:
            for frame in self._container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
                read += 1
        except av.FFmpegError as error:
            raise UnreadableImageError(f"{self.path} is damaged after frame {read}: {error.strerror}") from None


class VideoWriter:
    """Writes an MPEG-4 file, frame by frame (a context manager).

    Args:
        path: of the file, .mp4.
        rate: frames a second.

    Raises:
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: Path, *, rate: Fraction) -> None:
        self._av = _av()
        path.unlink(missing_ok=True)  # a link is replaced, not followed
        self._container = self._av.open(str(path), "w")
        self._container.metadata["comment"] = MARK
        self._stream: Any = None
        self._rate = rate.limit_denominator(65535)

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame.

        Args:
            frame: uint8 (H, W, 3), RGB, all of one size; an odd last row or column is left out, which the format
                does not allow.
        """
        height, width = (side - side % 2 for side in frame.shape[:2])
        if self._stream is None:
            self._stream = self._container.add_stream("mpeg4", rate=self._rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.bit_rate = 8 * width * height
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("PyAV", "video", "reading and writing videos") from error
    return av
