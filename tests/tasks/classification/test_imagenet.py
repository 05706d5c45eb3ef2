"""ImageNet's other test sets, on small trees of their true layouts. Class lists are timm's."""

import importlib.resources

import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo

from recnext.data import ImagePreparation
from recnext.data.imagenet import wnids
from recnext.errors import RecNextError
from recnext.tasks.classification.evaluate import evaluate_classifier, with_mirror
from recnext.tasks.classification.imagenet import (
    ALEXNET_ERROR,
    corruption_errors,
    mean_corruption_error,
    open_corruptions,
    open_test_set,
    real_accuracy,
    subset,
)
from recnext.tasks.classification.reference import published_results

PREPARATION = ImagePreparation(size=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3, crop_pct=1.0)
OPTIONS = {"preparation": PREPARATION, "device": torch.device("cpu"), "workers": 0}


def picture(path, value=0):
    """The value in base 250, in red and green."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (value % 250, value // 250, 7)).save(path, "png")


def reading(offset=0):
    """A network of 1000 classes that reads the label from the picture, `offset` beside it."""

    def forward(images):
        pixels = (images[:, :, 0, 0] * 255).round().long()
        return torch.nn.functional.one_hot((pixels[:, 0] + 250 * pixels[:, 1] + offset) % 1000, 1000).float()

    return forward


def synsets(name):
    return (importlib.resources.files("timm.data") / "_info" / f"{name}_synsets.txt").read_text().split()


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_subsets_count_the_outputs_of_their_200_classes_only(tmp_path, name):
    names = synsets(name.replace("-", "_"))
    assert len(names) == 200
    order = ImageNetInfo().label_names()
    assert [order[label] for label in subset(name)] == sorted(names)
    for wnid in names:
        picture(tmp_path / wnid / "a.jpg", order.index(wnid))
    labelled = open_test_set(name, tmp_path)
    assert evaluate_classifier(labelled.restrict(reading()), labelled.images, **OPTIONS).top1 == 100

    def distracted(images):  # sure of a class outside the subset
        outside = next(label for label in range(1000) if label not in subset(name))
        return reading()(images) + 9 * torch.nn.functional.one_hot(torch.tensor([outside]), 1000)

    assert evaluate_classifier(labelled.restrict(distracted), labelled.images, **OPTIONS).top1 == 100
    (tmp_path / "n01440764").mkdir(exist_ok=True)
    (tmp_path / "n99999999").mkdir()
    with pytest.raises(RecNextError, match="n99999999"):
        open_test_set(name, tmp_path)


def test_v2_is_labelled_by_number_and_sketch_by_wordnet_id(tmp_path):
    for label, wnid in enumerate(wnids()):
        picture(tmp_path / "v2" / str(label) / "x.jpeg", label)
        (tmp_path / "sketch" / wnid).mkdir(parents=True)
        (tmp_path / "sketch" / wnid / "sketch_0.JPEG").touch()
    sketch = open_test_set("imagenet-sketch", tmp_path / "sketch")
    assert sketch.images.labels == list(range(1000))
    v2 = open_test_set("imagenet-v2", tmp_path / "v2")
    result = evaluate_classifier(v2.restrict(reading()), v2.images, **OPTIONS)
    assert (result.images, result.top1) == (1000, 100)
    (tmp_path / "v2" / "999" / "x.jpeg").unlink()
    (tmp_path / "v2" / "999").rmdir()
    with pytest.raises(RecNextError, match="holds 999 of the 1000 classes of imagenet-v2"):
        open_test_set("imagenet-v2", tmp_path / "v2")


@pytest.mark.parametrize("grouped", [False, True])
def test_mean_corruption_error(tmp_path, grouped):
    groups = {"fog": "weather", "gaussian_noise": "noise"}
    for corruption in ALEXNET_ERROR:
        root = tmp_path / groups.get(corruption, "digital") if grouped else tmp_path
        for severity in range(1, 6):
            for number in range(5):  # as many of five images are wrong as the severity says
                wrong = number < severity and corruption != "fog"
                picture(root / corruption / str(severity) / "n01440764" / f"{number}.JPEG", 5 if wrong else 0)
    sets = open_corruptions(tmp_path)
    assert list(sets) == list(ALEXNET_ERROR)
    top1 = {
        name: {
            severity: evaluate_classifier(reading(), labelled.images, **OPTIONS).top1
            for severity, labelled in by_severity.items()
        }
        for name, by_severity in list(sets.items())
        if name in ("fog", "gaussian_noise")
    }
    assert top1["fog"] == dict.fromkeys(range(1, 6), 100)
    assert top1["gaussian_noise"] == pytest.approx({1: 80, 2: 60, 3: 40, 4: 20, 5: 0})
    errors = corruption_errors(top1)
    assert errors["fog"] == 0
    assert errors["gaussian_noise"] == pytest.approx(60 / 0.886428)  # mean error 60 %, over AlexNet's
    assert mean_corruption_error(errors) == pytest.approx(30 / 0.886428)
    place = next(tmp_path.rglob("snow")) / "4"
    place.rename(place.with_name("gone"))
    with pytest.raises(RecNextError, match="has no snow/4: mCE is a mean over 15 corruptions in 5 severities"):
        open_corruptions(tmp_path)


def test_alexnet_itself_has_an_mce_of_100():
    top1 = {name: dict.fromkeys(range(1, 6), 100 * (1 - error)) for name, error in ALEXNET_ERROR.items()}
    assert mean_corruption_error(corruption_errors(top1)) == pytest.approx(100)


def test_real_labels_take_any_of_an_images_classes_and_leave_out_images_without():
    names = [f"x/ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3, 4)]  # [], [970, 795], [230, 231], [809]
    assert real_accuracy(names, torch.tensor([[0], [795], [3], [809]])) == (pytest.approx(200 / 3), 3)
    assert real_accuracy(["other.jpg"], torch.tensor([[0]])) is None


def test_published_numbers_are_those_of_the_weights_asked_for():
    assert published_results("recnext_m1", "imagenet") == {"top-1 distilled": 79.2, "top-1 base": 78.0}
    assert published_results("recnext_m1.base_300e_in1k", "imagenet") == {"top-1 base": 78.0}
    assert published_results("recnext_t", "imagenet-c") == {"mCE": 70.5}
    assert published_results("recnext_t", "imagenet-a") == {"top-1": 6.8}
    assert published_results("recnext_m1", "imagenet-a") == published_results("resnet50", "imagenet") == {}


def test_mirror_gives_the_same_logits_for_both_sides():
    def forward(images):
        return images[:, :, 0, 0]

    images = torch.rand(2, 3, 4, 4)
    logits = with_mirror(forward)(images)
    torch.testing.assert_close(logits, with_mirror(forward)(images.flip(3)))
    torch.testing.assert_close(logits, (images[:, :, 0, 0] + images[:, :, 0, -1]) / 2)
