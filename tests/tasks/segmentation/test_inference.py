import pytest
import torch
from torch.nn import functional as F

from recnext.tasks.segmentation import inference
from recnext.tasks.segmentation.inference import enlarged_argmax, segment, slide


def test_enlarged_argmax_equals_argmax_of_all_classes_at_once(monkeypatch):
    monkeypatch.setattr(inference, "_CHUNK", 36 * 48 * 5)  # five classes at a time
    torch.manual_seed(0)
    logits = torch.randn(1, 37, 9, 12)
    sizes = ((36, 48), (31, 50))
    whole = logits
    for size in sizes:
        whole = F.interpolate(whole, size=size, mode="bilinear", align_corners=False)
    assert torch.equal(enlarged_argmax(logits, sizes), whole[0].argmax(0))
    assert enlarged_argmax(torch.zeros(1, 40, 2, 2), ((4, 4),)).unique().tolist() == [0]


def per_pixel(x):
    """A segmenter of stride 1 that sees one pixel: windows cannot differ from the whole image."""
    return torch.cat([x, -x], 1)


@pytest.mark.parametrize("size", [(40, 64), (16, 50), (33, 17)])
def test_windows_cover_the_image_once(size):
    image = torch.randn(1, 3, *size)
    torch.testing.assert_close(slide(per_pixel, image, window=24, stride=16), per_pixel(image))
    whole = segment(per_pixel, image, size=size)
    assert torch.equal(segment(per_pixel, image, size=size, window=24), whole)
    assert torch.equal(segment(per_pixel, image, size=size, window=24, stride=7), whole)


def test_overlapping_windows_are_averaged():
    """By hand: two windows of 4 on 6 columns, at 0 and 2, the second one's logits higher by one."""
    calls = []

    def counting(x):
        calls.append(x.shape)
        return torch.full((1, 2, *x.shape[2:]), float(len(calls)))

    result = slide(counting, torch.zeros(1, 3, 4, 6), window=4, stride=2)
    assert result[0, 0, 0].tolist() == [1, 1, 1.5, 1.5, 2, 2]
    assert calls == [(1, 3, 4, 4)] * 2
