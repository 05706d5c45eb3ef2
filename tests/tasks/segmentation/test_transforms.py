import colorsys

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from recnext.tasks.segmentation.transforms import (
    LabelledCrop,
    PadTo,
    PhotometricDistortion,
    RandomScale,
    SegmentationPreparation,
    scaled_size,
)

PREPARATION = SegmentationPreparation(image_size=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def pair(height=50, width=90):
    """Labels tell where a pixel was: those of the left half are 0, of the right half 1."""
    columns = (torch.arange(width) >= width // 2).to(torch.uint8).expand(height, width)
    image = (columns * 200 + 20).expand(3, -1, -1)
    return tv_tensors.Image(image.clone()), tv_tensors.Mask(columns.clone())


@pytest.mark.parametrize(
    ("height", "width", "scaled", "aligned"),
    [  # by hand, from the rule: factor min(2048 / longer, 512 / shorter), int(side * factor + 0.5), up to 32s
        (512, 683, (512, 683), (512, 704)),
        (1536, 2048, (512, 683), (512, 704)),
        (300, 2000, (307, 2048), (320, 2048)),
        (100, 100, (512, 512), (512, 512)),
    ],
)
def test_published_sizes(height, width, scaled, aligned):
    preparation = SegmentationPreparation(image_size=512, mean=(0, 0, 0), std=(1, 1, 1))
    assert scaled_size(height, width, 512) == scaled
    assert preparation.evaluation_size(height, width) == aligned
    image, labels = preparation.evaluation_transform()(*pair(height, width))
    assert image.shape == (3, *aligned)
    assert labels.shape == (height, width)


def test_training_samples_are_crops_whose_labels_follow_the_image():
    transform = PREPARATION.training_transform(photometric=False)
    for seed in range(12):
        torch.manual_seed(seed)
        image, labels = transform(*pair())
        assert image.shape == (3, 64, 64)
        assert labels.shape == (64, 64)
        assert image.dtype == labels.dtype == torch.uint8
        bright, dark = image[0] > 180, image[0] < 60
        assert ((labels == 1) & dark).sum() == 0  # a pixel's width of difference: bilinear against nearest
        assert ((labels == 0) & bright).sum() == 0
        padded = labels == 255
        assert (torch.tensor([124, 116, 104], dtype=torch.uint8) == image[:, padded].T).all()


def test_samples_are_a_function_of_the_seed():
    transform = PREPARATION.training_transform()
    first, second = [], []
    for results in (first, second):
        torch.manual_seed(3)
        results.extend(transform(*pair()))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(transform(*pair())[0], first[0])


def test_scale_covers_its_range():
    torch.manual_seed(0)
    sides = [RandomScale(64, (0.5, 2.0))(*pair())[0].shape[1] for _ in range(40)]
    assert min(sides) < 40
    assert max(sides) > 115
    assert 32 <= min(sides) <= max(sides) <= 128


def test_crops_avoid_a_single_class():
    """Where a strip of another class takes a tenth of the width, nearly every crop holds some of it."""
    torch.manual_seed(0)
    labels = torch.zeros(40, 400, dtype=torch.uint8)
    labels[:, 180:220] = 1
    sample = tv_tensors.Image(torch.zeros(3, 40, 400, dtype=torch.uint8)), tv_tensors.Mask(labels)

    def varied(ratio):
        crops = [LabelledCrop(40, ratio)(*sample)[1] for _ in range(60)]
        return sum(len(crop.unique()) == 2 for crop in crops)

    assert varied(0.95) > 45 > 30 > varied(1.0)


def test_crop_counts_labelled_pixels_only():
    crop = LabelledCrop(4, 0.75)
    assert crop.varied(torch.tensor([[0, 1, 255, 255]]))
    assert not crop.varied(torch.tensor([[0, 0, 255, 255]]))
    assert not crop.varied(torch.tensor([[0, 0, 0, 1]]))
    assert not crop.varied(torch.full((2, 2), 255))


def test_padding_goes_right_and_down():
    image, labels = PadTo(6, (1, 2, 3))(
        tv_tensors.Image(torch.full((3, 4, 5), 9, dtype=torch.uint8)),
        tv_tensors.Mask(torch.zeros(4, 5, dtype=torch.uint8)),
    )
    assert image[:, 5, 5].tolist() == [1, 2, 3]
    assert (image[:, :4, :5] == 9).all()
    assert (labels == 255).sum() == 36 - 20


def test_photometric_distortion():
    """Oracle for the strengths: Python's colorsys on one colour, brightness and contrast by hand."""
    colour = torch.tensor([60, 120, 200], dtype=torch.uint8)
    image = tv_tensors.Image(colour[:, None, None].expand(3, 4, 4).contiguous())
    off = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), None) | {"contrast_last": False}
    distort = PhotometricDistortion()

    def result(**params):
        return distort.transform(image, off | params)[:, 0, 0].tolist()

    assert result() == [60, 120, 200]
    assert result(brightness=-30) == [30, 90, 170]
    assert result(contrast=1.5) == [90, 180, 255]
    hue, saturation, value = colorsys.rgb_to_hsv(*(colour / 255).tolist())
    expected = [round(255 * part) for part in colorsys.hsv_to_rgb(hue + 0.1, saturation, value)]
    assert result(hue=0.1) == pytest.approx(expected, abs=1)
    grey = F.rgb_to_grayscale(image)[0, 0, 0].item()
    assert result(saturation=0.5) == pytest.approx([(part + grey) / 2 for part in (60, 120, 200)], abs=1)
    torch.manual_seed(0)
    changed = [not torch.equal(distort(image), image) for _ in range(40)]
    assert 25 < sum(changed) < 40  # all four stay off in one of sixteen
    labels = pair()[1]
    assert torch.equal(distort(pair()[0], labels)[1], labels)
