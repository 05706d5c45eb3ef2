import numpy as np
from PIL import Image

from recnext.tasks.segmentation.draw import class_shares, colour_mask, draw_prediction, legend, overlay, palette


def test_colours_differ():
    colours = palette(150)
    assert colours.shape == (150, 3)
    assert len({tuple(colour) for colour in colours.tolist()}) == 150
    near = np.abs(colours[:12, None].astype(int) - colours[None, :12]).sum(-1) + 1000 * np.eye(12)
    assert near.min() > 60
    assert np.array_equal(palette(6), colours[:6])


def test_mask_keeps_the_numbers(tmp_path):
    labels = np.array([[0, 1, 5, 255]], dtype=np.uint8)
    colour_mask(labels, 6).save(tmp_path / "m.png")
    read = Image.open(tmp_path / "m.png")
    assert read.mode == "P"
    assert np.array_equal(np.asarray(read), labels)
    assert np.array_equal(np.asarray(read.convert("RGB"))[0, 2], palette(6)[5])


def test_overlay_blends_and_draws_borders():
    image = np.full((4, 6, 3), 100, dtype=np.uint8)
    labels = np.zeros((4, 6), dtype=np.uint8)
    labels[:, 3:] = 1
    labels[0, 0] = 255
    drawn = overlay(image, labels, num_classes=2, opacity=0.5)
    colours = palette(2).astype(float)
    assert np.abs(drawn[2, 1] - (50 + colours[0] / 2)).max() <= 0.5
    assert np.array_equal(drawn[2, 3], palette(2)[1])  # the border
    assert np.abs(drawn[2, 5] - (50 + colours[1] / 2)).max() <= 0.5
    assert drawn[0, 0].tolist() == [100, 100, 100]


def test_shares_and_legend():
    labels = np.array([[2, 2, 2, 0], [0, 1, 255, 2]], dtype=np.uint8)
    assert class_shares(labels, 3) == [(2, 0.5), (0, 0.25), (1, 0.125)]
    names = ("sky", "road", "car")
    small, large = (legend(range(count), [0.1] * count, [*names] * 20, height=40) for count in (3, 60))
    assert small.height < large.height < 520  # at most two dozen lines
    sheet = draw_prediction(np.zeros((2, 4, 3), dtype=np.uint8), labels, names)
    assert sheet.width > 4 + 34
    assert sheet.height >= 60
