"""docs/demo in headless Chromium, with the digits network and ONNX Runtime's WebAssembly backend.

Needs what a user of the page has: a browser, and `npm install` in docs/demo. Playwright only drives the browser.
"""

import functools
import http.server
import importlib.util
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from recnext.checkpoints import load
from recnext.deploy.export import described, export_to, target
from recnext.deploy.export.files import ExportedNetwork
from recnext.tasks.classification.predict import Prediction, classify

DEMO = Path(__file__).parents[3] / "docs" / "demo"
RUNTIME = DEMO / "node_modules" / "onnxruntime-web"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PLAYWRIGHT = importlib.util.find_spec("playwright") is not None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not PLAYWRIGHT, reason="playwright, which drives the browser, is not installed"),
    pytest.mark.skipif(not RUNTIME.is_dir(), reason="onnxruntime-web is missing: npm install --prefix docs/demo"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map: ClassVar[dict[str, str]] = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
    }

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(digits: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The page as a user serves it, with the exported model: its address and the model's file."""
    for name in ("index.html", "demo.mjs"):
        shutil.copy(DEMO / name, tmp_path / name)
    (tmp_path / "node_modules").symlink_to(DEMO / "node_modules")
    network = load(checkpoint=digits / "run")
    spec = described(network, name="model", preprocess=True, dynamic_batch=False, dynamic_size=False)
    made = export_to(target("onnx"), network, spec, tmp_path, threads=1)
    assert made.problem == ""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", made.path
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_page_classifies_what_the_user_chooses(site, digits, tmp_path):
    """Oracle: the same file in Python. The digits are enlarged, so that the browser's filter matters little."""
    from playwright.sync_api import expect, sync_playwright

    address, model = site
    photos = []
    for digit in range(0, 10, 2):
        original = next((digits / "data" / "val" / str(digit)).glob("*.png"))
        photos.append(tmp_path / f"{digit}.png")
        Image.open(original).resize((128, 128), Image.Resampling.BICUBIC).save(photos[-1])
    expected = list(classify(ExportedNetwork(model), [str(photo) for photo in photos], topk=1))
    (tmp_path / "notes.png").write_text("no image")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        requests: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        expect(page.locator("#model")).to_have_text("model, fp32, 32x32 pixels", timeout=60_000)
        for photo, prediction in zip(photos, expected, strict=True):
            assert isinstance(prediction, Prediction)
            page.set_input_files("#file", photo)
            row = page.locator("#classes li").first
            expect(row.locator("span").first).to_have_text(prediction.classes[0].name, timeout=30_000)
            share = float(row.locator("span").nth(1).inner_text().removesuffix(" %"))
            assert share == pytest.approx(100 * prediction.classes[0].probability, abs=15)
        assert page.locator("#classes li").count() == 5
        page.set_input_files("#file", tmp_path / "notes.png")
        expect(page.locator("#error")).to_have_text("notes.png is not an image this browser reads.")
        page.goto(f"{address}?model=gone.onnx")
        expect(page.locator("#error")).to_contain_text("There is no gone.onnx.json beside the model")
        browser.close()
    assert errors == []
    assert all(url.startswith((address, "blob:", "data:")) for url in requests)  # nothing leaves the page
