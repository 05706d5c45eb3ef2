import numpy as np
import torch

from recnext.tasks.detection.draw import class_colours, draw_detections


def test_masks_mix_with_the_image_and_boxes_frame_them():
    pixels = np.full((300, 400, 3), 100, dtype=np.uint8)
    masks = torch.zeros(2, 1, 300, 400, dtype=torch.bool)
    masks[0, 0, 100:200, 100:200] = masks[1, 0, 100:200, 100:200] = True
    found = {
        "boxes": torch.tensor([[100.0, 100.0, 200.0, 200.0], [250.0, 50.0, 300.0, 90.0]]),
        "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.9, 0.5]),
        "masks": masks,
    }
    drawn = np.asarray(draw_detections(pixels, found, ("cat", "dog")))
    first, second = (np.array(colour) for colour in class_colours(2))
    assert drawn.shape == pixels.shape
    below = np.rint(0.5 * 100 + 0.5 * first)  # the lower score is drawn first
    np.testing.assert_allclose(drawn[150, 150], 0.5 * below + 0.5 * second, atol=1)
    assert drawn[150, 100].tolist() == second.tolist()
    assert drawn[50, 275].tolist() == first.tolist()
    assert drawn[250, 350].tolist() == [100, 100, 100]


def test_small_images_are_enlarged_and_nothing_is_nothing():
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}
    pixels = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
    drawn = draw_detections(pixels, nothing, ("cat",))
    assert drawn.size == (320, 240)
    assert np.array_equal(np.asarray(drawn)[::4, ::4], pixels)


def test_captions_stay_in_the_picture():
    """At the right edge the plate begins left of its box, at the upper edge it lies inside the box."""
    pixels = np.zeros((300, 400, 3), dtype=np.uint8)
    found = {"boxes": torch.tensor([[380.0, 2.0, 399.0, 90.0]]), "labels": torch.tensor([1]), "scores": torch.ones(1)}
    drawn = np.asarray(draw_detections(pixels, found, ("a long name",)))
    plate = (drawn == class_colours(1)[0]).all(2)
    assert plate[:20, 300:380].any()
    assert plate[4:14, 398].all()
    bare = np.asarray(draw_detections(pixels, found, ("a long name",), captions=False))
    assert not bare[:, :378].any()
