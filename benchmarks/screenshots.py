"""Pictures of the two pages for the documentation, taken with Chromium: docs/images/{serve,report}.png.

recnext demo --output runs/demo
python benchmarks/screenshots.py runs/demo
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from recnext.study.report import build_report

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
DESK, PHONE = {"width": 900, "height": 820}, {"width": 390, "height": 820}
GAP = 24


def shot(browser: Any, address: str, *, phone: bool, digit: Path | None = None) -> Image.Image:
    """The page at the size of a desk, or of a phone in dark colours."""
    context = browser.new_context(
        viewport=PHONE if phone else DESK, is_mobile=phone, color_scheme="dark" if phone else "light"
    )
    page = context.new_page()
    page.goto(address)
    if digit is not None:
        page.set_input_files("#file", digit)
        page.wait_for_selector("#classes li")
        if phone and page.locator("#explain-row").is_visible():
            page.check("#explain")
            page.wait_for_selector("#picture[alt^='Grad-CAM']")
            page.evaluate("document.getElementById('result').scrollIntoView()")
    picture = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    return picture.convert("RGB")


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one height in a row."""
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    row = Image.new("RGB", (width, pictures[0].height), "white")
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + GAP
    return row


def main() -> None:
    run = Path(sys.argv[1])
    digit = sorted((run / "data" / "val" / "3").iterdir())[2]
    command = [sys.executable, "-m", "recnext", "serve", "--checkpoint", str(run), "--port", "0"]
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+:\d+", server.stdout.readline())
            assert found is not None, "the server did not start"
            served = [shot(browser, found[0], phone=phone, digit=digit) for phone in (False, True)]
        finally:
            server.terminate()
            server.wait()
        report = Path(folder) / "report.html"
        report.write_text(build_report(run, workers=0), encoding="utf-8")
        reported = [
            shot(browser, f"{report.as_uri()}{part}", phone=phone) for part, phone in (("", False), ("#mistakes", True))
        ]
        browser.close()
    beside(served).save(IMAGES / "serve.png", optimize=True)
    beside(reported).save(IMAGES / "report.png", optimize=True)


if __name__ == "__main__":
    main()
