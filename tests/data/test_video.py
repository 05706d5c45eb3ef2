import sys
from fractions import Fraction

import numpy as np
import pytest

from recnext.data.video import VideoReader, VideoWriter, is_video
from recnext.errors import MissingExtraError, RecNextError

av = pytest.importorskip("av")


def test_round_trip(tmp_path):
    path = tmp_path / "clip.mp4"
    frames = [np.full((48, 65, 3), (40 * index, 200 - 40 * index, 90), dtype=np.uint8) for index in range(5)]
    with VideoWriter(path, rate=Fraction(10)) as writer:
        for frame in frames:
            writer.write(frame)
    with VideoReader(path) as reader:
        assert reader.rate == 10
        assert reader.frames == 5
        read = list(reader)
    assert [frame.shape for frame in read] == [(48, 64, 3)] * 5
    for frame, original in zip(read, frames, strict=True):
        assert abs(frame.astype(int) - original[:, :64]).mean() < 6


def test_what_is_no_video(tmp_path, monkeypatch):
    assert is_video("a/B.MP4")
    assert not is_video("a.png")
    path = tmp_path / "x.mp4"
    with pytest.raises(RecNextError, match="there is no file"):
        VideoReader(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RecNextError, match="is no video that can be read"):
        VideoReader(path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"recnext\[video\]"):
        VideoReader(path)
