import struct

import numpy as np
import pytest
from PIL import Image

from recnext.data.images import UnreadableImageError, open_image


def picture(mode="RGB", size=(8, 6)):
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "LAB"])
def test_modes(mode, tmp_path):
    picture(mode).save(tmp_path / "x.tif")
    opened = open_image(str(tmp_path / "x.tif"))
    assert (opened.mode, opened.size) == ("RGB", (8, 6))
    assert open_image(str(tmp_path / "x.tif"), grey=True).mode == "L"
    if mode == "CMYK":
        assert np.abs(np.asarray(opened, int) - np.asarray(picture(), int)).max() <= 1


def test_transparency_shows_white(tmp_path):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.paste((10, 20, 30, 255), (0, 0, 2, 2))
    clear.save(tmp_path / "x.png")
    opened = open_image(str(tmp_path / "x.png"))
    assert opened.getpixel((0, 0)) == (10, 20, 30)
    assert opened.getpixel((3, 3)) == (255, 255, 255)


def test_deep_pixels_are_scaled_to_eight_bits(tmp_path):
    expected = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(expected.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(expected.astype(np.int32) * 257).save(tmp_path / "32.tif")
    Image.fromarray(expected.astype(np.float32) / 255).save(tmp_path / "f.tif")
    for name in ("16.png", "32.tif", "f.tif"):
        assert np.array_equal(np.asarray(open_image(str(tmp_path / name)))[..., 0], expected), name


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    picture().save(tmp_path / "x.png", exif=exif)
    opened = open_image(str(tmp_path / "x.png"))
    assert opened.size == (6, 8)
    assert np.array_equal(np.asarray(opened), np.rot90(np.asarray(picture()), -1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "tif"])
def test_truncated_images_are_unreadable(suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImageError) as caught:
        open_image(str(path))
    assert "\n" not in str(caught.value)


def test_other_unreadable_files(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UnreadableImageError, match="not an image"):
        open_image(str(tmp_path / "text.png"))
    with pytest.raises(UnreadableImageError, match="no such file"):
        open_image(str(tmp_path / "gone.png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    picture(size=(20, 20)).save(tmp_path / "bomb.png")
    with pytest.raises(UnreadableImageError, match="exceeds limit"):
        open_image(str(tmp_path / "bomb.png"))


def test_only_the_orientation_of_exif_is_needed(tmp_path):
    """A pointer to nowhere among its entries, which Pillow cannot write back."""
    picture(size=(16, 8)).save(tmp_path / "x.jpg", quality=95)
    content = (tmp_path / "x.jpg").read_bytes()
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x8769, 4, 1, 99999)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    (tmp_path / "x.jpg").write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    assert open_image(str(tmp_path / "x.jpg")).size == (8, 16)


def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path):
    picture(size=(16, 8)).save(tmp_path / "x.jpg", progressive=True)
    content = (tmp_path / "x.jpg").read_bytes()
    assert open_image(str(tmp_path / "x.jpg")).size == (16, 8)
    last = content.rindex(b"\xff\xda")
    (tmp_path / "x.jpg").write_bytes(content[:last] + 500 * content[last:-2] + content[-2:])
    with pytest.raises(UnreadableImageError, match="a JPEG of more than 100 scans"):
        open_image(str(tmp_path / "x.jpg"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + b"\xff\xda" * 200}])
def test_what_only_looks_like_scans_is_read(tmp_path, options):
    """In a thumbnail, or in the film that a telephone puts behind a photograph."""
    picture(size=(30, 20)).save(tmp_path / "x.jpg", **options)
    pixels = np.asarray(open_image(str(tmp_path / "x.jpg")))
    with open(tmp_path / "x.jpg", "ab") as file:
        file.write(b"\xff\xda" * 10_000)
    assert np.array_equal(open_image(str(tmp_path / "x.jpg")), pixels)


def test_megabytes_for_a_few_pixels_are_refused(tmp_path):
    picture(size=(16, 8)).save(tmp_path / "x.jpg")
    with open(tmp_path / "x.jpg", "ab") as file:
        file.write(bytes(5 * 2**20))
    with pytest.raises(UnreadableImageError, match=r"a JPEG of 52\d+ bytes for 16x8 pixels"):
        open_image(str(tmp_path / "x.jpg"))
