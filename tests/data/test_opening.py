import io
import urllib.error
from email.message import Message

import numpy as np
import pytest
from PIL import Image

from recnext.data import opening as images
from recnext.data.images import UnreadableImageError
from recnext.data.inputs import count_images, find_images
from recnext.data.opening import open_image
from recnext.errors import RecNextError


def picture(mode="RGB", size=(8, 6)):
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    return Image.fromarray(pixels).convert(mode)


def test_found_in_order_and_hidden_left_out(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a.webp", "notes.txt", ".hidden/x.png", "b/.x.png", "c.dat"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [name.removeprefix(f"{tmp_path}/") for name in find_images([str(tmp_path)])]
    assert found == ["a.webp", "b/1.png", "b/2.JPG"]
    inputs = [
        str(tmp_path / "c.dat"),
        str(tmp_path / "*" / "*.png"),
        "https://example.org/x",
        str(tmp_path / "gone.png"),
    ]
    found = [name.removeprefix(f"{tmp_path}/") for name in find_images(inputs)]
    assert found == ["c.dat", "b/1.png", "https://example.org/x", "gone.png"]
    assert count_images(inputs) == 4
    assert count_images([str(tmp_path / "**" / "*.JPG")]) == 1


def test_file_with_a_pattern_character_in_its_name(tmp_path):
    (tmp_path / "a[1].png").touch()
    assert list(find_images([str(tmp_path / "a[1].png")])) == [str(tmp_path / "a[1].png")]


def test_nothing_found_is_said_at_once(tmp_path):
    with pytest.raises(RecNextError, match="no images are given"):
        find_images([])
    with pytest.raises(RecNextError, match=r"no images in .*\.jpg"):
        find_images([str(tmp_path)])
    with pytest.raises(RecNextError, match=r"no images in .*\*\.png"):
        find_images([str(tmp_path / "*.png")])
    with pytest.raises(RecNextError, match=r"there is no file or folder .*gone"):
        find_images([str(tmp_path / "gone")])


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


@pytest.fixture
def web(monkeypatch):
    pages = {}

    def urlopen(request, timeout):
        assert timeout == images.TIMEOUT
        content = pages[request.full_url]
        if isinstance(content, Exception):
            raise content
        return io.BytesIO(content)

    monkeypatch.setattr(images.urllib.request, "urlopen", urlopen)
    return pages


def test_addresses(web, monkeypatch):
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    web["https://example.org/x"] = buffer.getvalue()
    assert np.array_equal(np.asarray(open_image("https://example.org/x")), np.asarray(picture()))
    web["https://example.org/no"] = urllib.error.HTTPError("u", 404, "Not Found", Message(), None)
    with pytest.raises(UnreadableImageError, match="cannot download: Not Found"):
        open_image("https://example.org/no")
    web["https://example.org/slow"] = TimeoutError("timed out")
    with pytest.raises(UnreadableImageError, match="cannot download: timed out"):
        open_image("https://example.org/slow")
    web["https://example.org/page"] = b"<html>"
    with pytest.raises(UnreadableImageError, match="not an image"):
        open_image("https://example.org/page")
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    with pytest.raises(UnreadableImageError, match="larger than"):
        open_image("https://example.org/x")
