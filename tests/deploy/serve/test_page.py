"""The page in a browser."""

import pytest
from PIL import Image

from browsing import Visit, chromium
from deploy.serve.pictures import SVG


@pytest.mark.slow
def test_a_digit_is_read(server, digit, tmp_path, classifier):
    with chromium() as browser:
        for phone, dark in ((True, False), (False, True)):
            visit = Visit(browser, phone=phone, dark=dark)
            page = visit.page
            page.goto(server.url)
            page.wait_for_selector("#accepted:has-text('megapixels')")
            assert "10 classes, 32\u00d732 pixels, torch fp32" in page.text_content("#model")
            page.set_input_files("#camera" if phone else "#file", digit)
            page.wait_for_selector("#classes li")
            rows = page.locator("#classes li")
            assert rows.count() == 5
            assert rows.first.locator(".name").text_content() == "7"
            percent = float(rows.first.locator(".share").text_content().split()[0])
            bar = rows.first.locator(".bar").bounding_box()["width"]
            track = rows.first.locator(".track").bounding_box()["width"]
            assert 100 * bar / track == pytest.approx(percent, abs=1)
            assert "ms in all" in page.text_content("#latency")
            assert page.text_content("#status") == f"7, {percent:.1f} %"
            visit.check()
            assert page.locator("#explain-row").is_visible() == classifier.explains
            if classifier.explains:
                page.check("#explain")
                page.wait_for_selector("#picture[alt^='Grad-CAM']")
                page.uncheck("#explain")
                page.wait_for_selector("#picture[alt^='The image']")
            page.screenshot(path=tmp_path / "page.png", full_page=True)
            with Image.open(tmp_path / "page.png") as shot:
                assert len(shot.convert("RGB").getcolors(2**24)) > 50
            (tmp_path / "drawing.svg").write_bytes(SVG)
            page.set_input_files("#file", tmp_path / "drawing.svg")
            page.wait_for_selector("#error:visible")
            assert "no image of an accepted format" in page.text_content("#error")
            assert all(url.startswith((server.url, "blob:")) for url in visit.requests)
            assert [text for text in visit.complaints if "415" not in text] == []
            visit.context.close()

        visit = Visit(browser, phone=True)
        visit.page.goto(f"{server.url}/docs")
        visit.page.wait_for_selector("h2:has-text('POST /v1/classify')")
        visit.check()


@pytest.mark.slow
def test_dropping_and_the_toggle_without_its_extra(server, digit, monkeypatch):
    monkeypatch.setattr(server.service.classifier, "explains", False)
    drop = """async ([selector, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
        document.querySelector(selector).dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
    }"""
    with chromium() as browser:
        page = Visit(browser, phone=False).page
        page.goto(server.url)
        page.wait_for_selector("#accepted:has-text('megapixels')")
        page.evaluate(drop, ["#drop", list(digit.read_bytes())])
        page.wait_for_selector("#classes li")
        assert page.locator("#classes li").first.locator(".name").text_content() == "7"
        assert "dropped.png, 32\u00d732, PNG" in page.text_content("#caption")
        assert not page.locator("#explain-row").is_visible()
