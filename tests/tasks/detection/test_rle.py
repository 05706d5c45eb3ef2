import numpy as np
import pytest

from recnext.errors import RecNextError
from recnext.tasks.detection.rle import decode_rle, encode_masks, run_lengths


@pytest.mark.parametrize("kind", ["random", "empty", "full", "first"])
def test_masks_come_back(kind):
    mask = np.random.default_rng(0).random((7, 5)) > 0.6
    if kind == "first":
        mask[0, 0] = True
    if kind in ("empty", "full"):
        mask[:] = kind == "full"
    [first, second] = encode_masks(np.stack([mask, ~mask]))
    assert first["size"] == [7, 5]
    assert np.array_equal(decode_rle(first), mask)
    assert np.array_equal(decode_rle(second), ~mask)


def test_runs_follow_the_columns():
    """By hand, from the format's definition: pixels (1,0), (2,0), (0,1) of a 3x2 mask are numbers 1, 2, 3."""
    mask = np.array([[0, 1], [1, 0], [1, 0]], dtype=bool)
    assert np.array_equal(decode_rle({"size": [3, 2], "counts": [1, 3, 2]}), mask)
    with pytest.raises(RecNextError, match="add up to 5; expected 3x2 = 6"):
        decode_rle({"size": [3, 2], "counts": [1, 4]})


def test_compressed_as_pycocotools_writes_it():
    coco_mask = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for index in range(60):
        height, width = random.integers(1, 90, 2)
        mask = random.random((height, width)) > random.choice([0.02, 0.5, 0.98])
        mask[:, : width // 2] = index % 3 == 0  # long runs
        text = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert encode_masks(mask[None])[0]["counts"] == text
        assert np.array_equal(decode_rle({"size": [height, width], "counts": text}), mask)


@pytest.mark.parametrize(
    "counts", [["a"], [[1]], [1.5], [-1, 7], [True], [10**30], "~", "é", "P", "o" * 9 + "0", "M", "1\n"]
)
def test_rle_that_is_none(counts):
    with pytest.raises(RecNextError, match="RLE: counts are"):
        run_lengths(counts)
