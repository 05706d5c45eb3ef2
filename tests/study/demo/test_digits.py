import torch

from recnext.data import open_class_folders
from recnext.study.demo.digits import CLASS_NAMES, Digits, write_folders


def test_split_is_stratified_complete_and_fixed():
    train, val = Digits("train"), Digits("val")
    assert (len(train), len(val)) == (1438, 359)
    assert train.images.shape == (1438, 3, 32, 32)
    assert train.images.dtype == torch.uint8
    for label in range(10):
        share = val.labels.count(label) / (val.labels.count(label) + train.labels.count(label))
        assert 0.19 < share < 0.21


def test_folders_hold_the_same_pixels_as_the_tensors(tmp_path):
    write_folders(tmp_path, per_class=2)
    folders = open_class_folders(tmp_path)
    assert folders.class_names == CLASS_NAMES
    assert (len(folders.train), len(folders.val)) == (20, 20)
    digits = Digits("val")
    image, label = folders.val[0]
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(32, 32, 3).permute(2, 0, 1)
    assert label == 0
    assert torch.equal(pixels, digits[digits.labels.index(0)][0])
