import io
import pickle
from http import HTTPStatus

import numpy as np
import pytest
from PIL import Image

from deploy.serve.pictures import SVG, bomb, encoded, scans
from recnext.data.images import read_image
from recnext.data.transforms import ImagePreparation
from recnext.deploy.serve.decoding import UploadDecoder, decode
from recnext.deploy.serve.limits import FORMATS, Limits, RefusedError
from recnext.errors import RecNextError

LIMITS = Limits(megapixels=1)


def refused(data: bytes, *, limits: Limits = LIMITS) -> tuple[int, str]:
    with pytest.raises(RefusedError) as caught:
        decode(data, limits=limits)
    return int(caught.value.status), caught.value.reason


@pytest.mark.parametrize("kind", FORMATS)
def test_pixels_are_those_of_the_other_commands(kind):
    data = encoded(kind)
    image, format_name = decode(data, limits=LIMITS)
    assert format_name == kind
    assert np.array_equal(np.asarray(image), np.asarray(read_image(io.BytesIO(data))))


def test_photos_are_turned_upright_and_grey_networks_get_grey():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    image, _ = decode(encoded("JPEG", 40, 30, exif=exif), limits=LIMITS, grey=True)
    assert (image.size, image.mode) == ((30, 40), "L")


@pytest.mark.parametrize("data", [SVG, b"hello", b"%PDF-1.4", b"\0" * 100, encoded("TIFF"), encoded("PPM")])
def test_other_formats(data):
    status, reason = refused(data)
    assert status == 415
    assert "expected JPEG, PNG, WEBP, GIF, BMP" in reason


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated(kind):
    data = encoded(kind)
    status, reason = refused(data[: len(data) * 2 // 3])
    assert status == 422
    assert reason.startswith("the image is damaged: ")


def test_empty():
    assert refused(b"") == (422, "the upload is empty: expected an image")


def test_decompression_bombs_are_refused_by_their_header():
    small = bomb(20_000, 20_000)  # 400 megapixels, above Pillow's own bound
    assert len(small) < 60_000
    assert refused(small, limits=Limits())[0] == 413
    status, reason = refused(bomb(1200, 1000))
    assert (status, reason) == (413, "1200x1000 is more than 1 megapixels")
    assert decode(bomb(1000, 1000), limits=LIMITS)[0].size == (1000, 1000)


def test_a_jpeg_of_a_thousand_scans():
    """Each of them is a pass over the image: 1 MB of them takes minutes."""
    assert "a JPEG of more than 100 scans" in refused(scans(64, 1000))[1]
    assert decode(scans(64, 50), limits=LIMITS)[0].size == (64, 64)


@pytest.mark.parametrize(
    ("name", "value"), [("queue", 0), ("body_mib", float("inf")), ("answer_seconds", float("nan")), ("requests", 10**9)]
)
def test_limits_are_bounded(name, value):
    with pytest.raises(RecNextError, match=rf"limits\.{name}={value}: expected a number above 0, at most"):
        Limits(**{name: value})


def test_refusals_go_from_process_to_process():
    error = RefusedError(HTTPStatus.REQUEST_TIMEOUT, "too slow", kind="slow", close=True)
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")]
    + [("JPEG", "L"), ("JPEG", "CMYK"), ("GIF", "P"), ("WEBP", "RGBA"), ("BMP", "1"), ("BMP", "P")],
)
def test_unusual_images_are_prepared_as_predict_does(kind, mode):
    file = io.BytesIO()
    grey = Image.linear_gradient("L").resize((48, 40))
    image = grey.convert("I").point(lambda value: 257 * value).convert("I;16") if mode == "I;16" else grey.convert(mode)
    image.save(file, kind)
    preparation = ImagePreparation(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    decoder = UploadDecoder(preparation.evaluation_transform(), 3, LIMITS)
    prepared = pickle.loads(pickle.dumps(decoder))(file.getvalue(), None)
    expected = preparation.evaluation_transform()(read_image(io.BytesIO(file.getvalue())))
    assert np.array_equal(prepared.pixels, expected)
    assert (prepared.pixels.shape, prepared.width, prepared.height, prepared.format) == ((3, 32, 32), 48, 40, kind)
    assert prepared.pixels.std() > 30
