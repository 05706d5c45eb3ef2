"""Training transforms against the published rules (the paper's recipe, written out in the specification)."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data.auto_augment import AugmentOp, AutoAugment, RandAugment
from torchvision import transforms

from recnext.data import Augmentation, Batch, ImagePreparation, normalise, prepare_batch
from recnext.data.erasing import erase
from recnext.data.resizing import TorchResizedCrop
from recnext.data.sampling import seed_everything
from recnext.errors import RecNextError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PUBLISHED = Augmentation.published()


def preparation(size):
    return ImagePreparation(size=(size, size), mean=MEAN, std=STD)


def steps(size, augmentation):
    return preparation(size).training_transform(augmentation).transforms


def test_published_transform_has_the_recipes_parameters():
    crop, flip, rand_augment, to_tensor = steps(224, PUBLISHED)
    assert (crop.size, tuple(crop.scale)) == ((224, 224), (0.08, 1.0))
    assert crop.ratio == pytest.approx((3 / 4, 4 / 3))
    assert crop.interpolation == transforms.InterpolationMode.BICUBIC or crop.interpolation == Image.BICUBIC
    assert (type(flip), flip.p) == (transforms.RandomHorizontalFlip, 0.5)
    assert isinstance(rand_augment, RandAugment)  # and no colour jitter beside it
    assert rand_augment.num_layers == 2
    for op in rand_augment.ops:
        assert isinstance(op, AugmentOp)
        assert (op.magnitude, op.magnitude_std, op.prob) == (9, 0.5, 0.5)
        assert op.hparams["translate_const"] == int(224 * 0.45)
        assert op.hparams["img_mean"] == (124, 116, 104)
        assert op.kwargs["resample"] == Image.BICUBIC
    assert len({op.name for op in rand_augment.ops}) == 15
    assert {"PosterizeIncreasing", "SolarizeIncreasing", "ColorIncreasing"} <= {op.name for op in rand_augment.ops}
    assert to_tensor(Image.new("RGB", (4, 4))).dtype == torch.uint8
    assert (PUBLISHED.erase_prob, PUBLISHED.erase_mode) == (0.25, "pixel")


def test_small_images_get_a_padded_crop_in_place_of_the_random_resized_one():
    resize, crop, flip, rand_augment, _ = steps(32, PUBLISHED)
    assert resize(Image.new("RGB", (32, 32))).size == (32, 32)
    assert (crop.size, crop.padding) == ((32, 32), 4)
    assert (flip.p, type(rand_augment)) == (0.5, RandAugment)


def test_three_augment_chooses_one_of_solarise_grey_and_blur_and_keeps_the_jitter():
    three = Augmentation(crop_scale=0.08, auto_augment="3a", color_jitter=0.3)
    _, _, choice, jitter, _ = steps(224, three)
    assert isinstance(choice, AutoAugment)
    assert jitter.brightness == jitter.contrast == jitter.saturation == (0.7, 1.3)
    pixels = np.random.RandomState(0).randint(0, 256, (24, 24, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    seen: Counter[str] = Counter()
    for number in range(60):
        seed_everything(number)
        result = np.asarray(choice(image))
        if np.array_equal(result, np.where(pixels < 128, pixels, 255 - pixels)):
            seen["solarise"] += 1
        elif (result == result[..., :1]).all():
            seen["grey"] += 1
        else:
            assert result.std() < pixels.std()
            seen["blur"] += 1
    assert set(seen) == {"solarise", "grey", "blur"}
    assert min(seen.values()) > 8


def test_fast_resize_takes_the_same_crops_and_all_but_the_same_pixels():
    image = Image.fromarray(load_sample_images().images[0])  # a real photograph
    for size, augmentation in ((224, PUBLISHED), (64, Augmentation())):
        exact, fast = (steps(size, replace(augmentation, fast_resize=value))[0] for value in (False, True))
        assert isinstance(fast, TorchResizedCrop)
        for number in range(6):
            seed_everything(number)
            expected = np.asarray(exact(image)).astype(int)
            after = random.random()
            seed_everything(number)
            difference = abs(np.asarray(fast(image)).astype(int) - expected)
            assert random.random() == after
            assert difference.max() <= 2
            assert (difference > 0).mean() < 0.02


def test_no_jitter_and_no_flip_leave_the_crop_alone():
    crop, _ = steps(64, Augmentation(hflip=0, color_jitter=0))
    assert crop.size == (64, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_scale": 0}, "crop-scale is 0: expected a share above 0"),
        ({"auto_augment": "rand-m9-mstd0.5-inc"}, "auto-augment is 'rand-m9-mstd0.5-inc'"),
        ({"auto_augment": "3b"}, "auto-augment is '3b'"),
        ({"erase_mode": "noise"}, "erase-mode is 'noise': expected pixel, color or zero"),
        ({"erase_prob": 1.5}, "erase-prob is 1.5"),
        ({"repeats": 0}, "repeats is 0"),
        ({"crop_scale": 1, "auto_augment": "3a"}, "expected '' with crop_scale 1"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(RecNextError, match=message.replace("(", r"\(")):
        Augmentation(**changes)


@pytest.mark.parametrize(
    ("mode", "expected"), [("pixel", 1298786.3323032944), ("color", 1301283.3226073608), ("zero", 1298781.0)]
)
def test_erased_rectangles_and_their_noise_stay_what_they_were(mode, expected):
    images = torch.full((40, 3, 32, 40), 9.0)
    erase(images, positions=range(40), probability=0.5, mode=mode, seed=3, epoch=2)
    assert images.double().sum().item() == pytest.approx(expected, abs=1e-3)
    erased = (images != 9).any(1)
    assert [int(image.sum()) for image in erased[:6]] == [0, 48, 252, 342, 0, 0]
    assert erased[3].nonzero().amin(0).tolist() == [6, 16]


@pytest.mark.parametrize("mode", ["pixel", "color", "zero"])
def test_erasing_fills_as_the_mode_says_and_depends_on_the_position_only(mode):
    positions = list(range(40))
    whole = erase(torch.full((40, 3, 32, 32), 9.0), positions=positions, probability=0.5, mode=mode, seed=3, epoch=2)
    halves = [
        erase(torch.full((20, 3, 32, 32), 9.0), positions=half, probability=0.5, mode=mode, seed=3, epoch=2)
        for half in (positions[:20], positions[20:])
    ]
    assert torch.equal(whole, torch.cat(halves))
    other = erase(torch.full((40, 3, 32, 32), 9.0), positions=positions, probability=0.5, mode=mode, seed=3, epoch=3)
    assert not torch.equal(whole, other)
    touched = [image[image != 9].view(3, -1) for image in whole if (image != 9).any()]
    assert 8 < len(touched) < 32
    for values in touched:
        assert {"zero": 1, "color": 3}.get(mode, values.numel()) == values.unique().numel()
    if mode == "pixel":
        values = torch.cat([part.flatten() for part in touched])
        assert values.mean().abs() < 0.05
        assert abs(values.std() - 1) < 0.05


def test_erasing_leaves_the_generators_of_the_step_alone():
    def draw():
        return random.random(), torch.rand(1).item()

    seed_everything(5)
    expected = draw()
    seed_everything(5)
    erase(torch.ones(4, 3, 32, 32), positions=range(4), probability=1.0)
    assert draw() == expected


def test_prepare_batch_normalises_and_erases_training_images_only():
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    batch = Batch(images, torch.zeros(6, dtype=torch.int64), positions=torch.arange(6), epoch=1)
    plain = normalise(images, mean=MEAN, std=STD, device=torch.device("cpu"))
    options = {"preparation": preparation(32), "device": torch.device("cpu")}
    assert torch.equal(prepare_batch(batch, **options), plain)
    erased = prepare_batch(batch, **options, augmentation=Augmentation(erase_prob=1.0), seed=1)
    assert erased.is_contiguous(memory_format=torch.channels_last)
    expected = erase(plain.clone(), positions=range(6), probability=1.0, seed=1, epoch=1)
    assert torch.equal(erased, expected)
    assert all((left != right).any() for left, right in zip(erased, plain, strict=True))
