import os
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from recnext.data import Augmentation, ImagePreparation, make_loader, normalise, open_class_folders
from recnext.data.folders import ClassFolder, evaluation_root, find_class_names
from recnext.data.images import UnreadableImageError, open_image
from recnext.data.loading import require_readable
from recnext.data.sampling import EvaluationBatches, TrainBatches
from recnext.errors import RecNextError

PREPARATION = ImagePreparation(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)


def tree(root, classes=("cat", "dog"), splits=("train", "val"), images=3):
    for split in splits:
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(images):
                pixels = np.full((40, 36, 3), 50 * label + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_labels_follow_sorted_names_and_hidden_folders_do_not_count(tmp_path):
    tree(tmp_path, classes=("b", "a", "c10", "c9"))
    (tmp_path / "train" / ".cache").mkdir()
    folders = open_class_folders(tmp_path)
    assert folders.class_names == ("a", "b", "c10", "c9")
    assert folders.train.labels == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert len(folders.val) == 12
    image, label = folders.train[3]
    assert (label, image.size, image.mode) == (1, (36, 40), "RGB")


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(RecNextError, match=r"nowhere does not exist: expected a folder with train"):
        open_class_folders(tmp_path / "nowhere")
    tree(tmp_path, splits=("train",))
    with pytest.raises(RecNextError, match="has no folder 'val'"):
        open_class_folders(tmp_path)
    (tmp_path / "val").mkdir()
    with pytest.raises(RecNextError, match="val holds no class folders"):
        open_class_folders(tmp_path)
    tree(tmp_path, splits=("val",))
    for file in (tmp_path / "val" / "dog").iterdir():
        file.unlink()
    with pytest.raises(RecNextError, match=r"no images in .*val/dog: expected files that end in \.jpg"):
        open_class_folders(tmp_path)


def test_different_classes_and_a_single_class_are_refused(tmp_path):
    tree(tmp_path / "a")
    tree(tmp_path / "a", classes=("cow",), splits=("train",))
    tree(tmp_path / "a", classes=("hen",), splits=("val",))
    with pytest.raises(RecNextError, match="only in train: cow; only in val: hen"):
        open_class_folders(tmp_path / "a")
    tree(tmp_path / "b", classes=("cat",))
    with pytest.raises(RecNextError, match="one class, 'cat'"):
        open_class_folders(tmp_path / "b")


def test_evaluation_root(tmp_path):
    tree(tmp_path / "a")
    assert evaluation_root(tmp_path / "a") == tmp_path / "a" / "val"
    assert evaluation_root(tmp_path / "a" / "train") == tmp_path / "a" / "train"
    tree(tmp_path / "b", splits=("train",))
    with pytest.raises(RecNextError, match="has train but no val"):
        evaluation_root(tmp_path / "b")


@pytest.mark.parametrize("damage", ["truncated", "text", "gone"])
def test_unreadable_images_are_named(tmp_path, damage):
    tree(tmp_path)
    path = tmp_path / "train" / "cat" / "1.png"
    folder = ClassFolder(tmp_path / "train", class_names=("cat", "dog"))
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:60] if damage == "truncated" else b"hello")
    with pytest.raises(UnreadableImageError, match=r"cannot read image .*cat/1\.png: "):
        folder[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_replaces_unreadable_images_and_evaluation_reports_them(tmp_path, workers):
    tree(tmp_path)
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"no image")
    folder = ClassFolder(tmp_path / "train", class_names=find_class_names(tmp_path / "train"))
    options = {"transform": PREPARATION.evaluation_transform(), "workers": workers}
    (batch,) = make_loader(folder, TrainBatches(6, batch_size=6), **options)
    assert batch.images.shape == (6, 3, 32, 32)
    assert batch.images.dtype == torch.uint8
    assert len(batch.unreadable) == 1
    assert "cat/1.png" in batch.unreadable[0]
    (batch,) = make_loader(folder, EvaluationBatches(6, batch_size=6), **options)
    assert batch.labels.tolist() == [0, 0, 1, 1, 1]
    assert "cat/1.png" in batch.unreadable[0]


def test_normalise_matches_the_formula():
    images = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    result = normalise(images, mean=mean, std=std, device=torch.device("cpu"))
    expected = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(result, expected.float())
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_training_transforms_vary_and_can_be_switched_off():
    image = Image.fromarray(np.random.RandomState(0).randint(0, 255, (50, 60, 3), dtype=np.uint8))
    for size in (32, 48):
        preparation = ImagePreparation(size=(size, size), mean=(0.5,) * 3, std=(0.5,) * 3)
        light, off = preparation.training_transform(), preparation.training_transform(Augmentation(crop_scale=1))
        assert light(image).shape == (3, size, size)
        assert light(image).dtype == torch.uint8
        assert any(not torch.equal(light(image), light(image)) for _ in range(5))
        assert torch.equal(off(image), off(image))


def test_images_are_opened_as_for_prediction(tmp_path):
    tree(tmp_path, images=1)
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(deep).save(tmp_path / "train" / "cat" / "0.png")
    turned, exif = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)[:, :6]), Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    turned.save(tmp_path / "train" / "dog" / "0.png", exif=exif)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "val" / "cat" / "0.png")
    folders = open_class_folders(tmp_path)
    for folder in (folders.train, folders.val):
        for index, path in enumerate(folder.paths):
            assert np.array_equal(np.asarray(folder[index][0]), np.asarray(open_image(path))), path
    assert np.array_equal(np.asarray(folders.train[0][0])[..., 0], deep // 257)
    assert folders.train[1][0].size == (8, 6)
    assert folders.val[0][0].getpixel((0, 0)) == (255, 255, 255)


def test_accents_in_class_names_are_composed_and_two_forms_of_one_are_refused(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    tree(tmp_path, classes=(composed, "tea"), splits=("train",))
    tree(tmp_path, classes=(decomposed, "tea"), splits=("val",))
    folders = open_class_folders(tmp_path)
    assert folders.class_names == (composed, "tea")
    assert len(folders.val) == 6
    tree(tmp_path, classes=(decomposed,), splits=("train",))
    with pytest.raises(RecNextError, match="whose accents are written in two ways"):
        open_class_folders(tmp_path)


def test_a_class_folder_that_is_not_utf8_is_refused_and_such_files_are_read(tmp_path):
    tree(tmp_path)
    for split in ("train", "val"):
        folder = os.fsencode(tmp_path / split / "cat")
        os.rename(os.path.join(folder, b"0.png"), os.path.join(folder, b"caf\xe9.png"))
    folders = open_class_folders(tmp_path)
    assert {str(image.size) for image, _ in (folders.train[index] for index in range(6))} == {"(36, 40)"}
    os.rename(os.fsencode(tmp_path / "val" / "cat"), os.path.join(os.fsencode(tmp_path / "val"), b"caf\xe9"))
    with pytest.raises(RecNextError, match=r"val/caf\\xe9 has a name that is not UTF-8.*rename it"):
        open_class_folders(tmp_path)


def test_folders_of_systems_are_no_classes_and_links_are(tmp_path):
    tree(tmp_path / "D")
    tree(tmp_path / "D", classes=("__MACOSX", "@eaDir"), splits=("train",))
    (tmp_path / "L" / "train").mkdir(parents=True)
    (tmp_path / "L" / "train" / "cat").symlink_to(tmp_path / "D" / "train" / "cat")
    (tmp_path / "L" / "train" / "dog").mkdir()
    (tmp_path / "L" / "train" / "dog" / "batch").symlink_to(tmp_path / "D" / "train" / "dog")
    (tmp_path / "L" / "val").symlink_to(tmp_path / "D" / "val")
    for root in (tmp_path / "D", tmp_path / "L"):
        folders = open_class_folders(root)
        assert (folders.class_names, len(folders.train), len(folders.val)) == (("cat", "dog"), 6, 6)


@pytest.mark.parametrize("size", [(65_000, 1), (1, 65_000)])
def test_a_thin_image_takes_no_more_memory_than_others(size):
    image = Image.new("RGB", size, (200, 40, 40))
    preparation = ImagePreparation(size=(224, 224), mean=(0.5,) * 3, std=(0.5,) * 3)
    transforms = [preparation.evaluation_transform(), preparation.training_transform(Augmentation(crop_scale=1))]
    for transform in (*transforms, preparation.training_transform()):
        pixels = transform(image)
        assert pixels.shape == (3, 224, 224)
        assert pixels[:, 100, 100].tolist() == pytest.approx([200, 40, 40], abs=60)
    assert max(transforms[0].transforms[0](image).size) == 64


def test_a_folder_of_broken_images_is_counted_and_named(tmp_path):
    tree(tmp_path, images=20)
    folders = open_class_folders(tmp_path)
    for path in folders.train.paths[:-1]:
        os.truncate(path, 30)
    require_readable(folders.train)
    os.remove(folders.train.paths[-1])
    with pytest.raises(RecNextError, match=r"none of the 40 images in .*train can be read; the first: .*cat/0\.png"):
        require_readable(folders.train)


def test_a_link_to_the_split_does_not_put_other_classes_into_its_own(tmp_path):
    tree(tmp_path)
    (tmp_path / "train" / "cat" / "all").symlink_to(tmp_path / "train")
    (tmp_path / "val" / "cat").rename(tmp_path / "elsewhere")
    (tmp_path / "val" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "all").symlink_to(tmp_path / "val")
    folders = open_class_folders(tmp_path)
    assert folders.train.labels == folders.val.labels == [0, 0, 0, 1, 1, 1]
