import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from browsing import Visit, chromium
from checkpoints.files import network
from cli.command import run_json
from recnext.checkpoints import save
from recnext.study.report import build_report
from recnext.study.report.measuring import calibration_bars, confusions


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page(run) -> str:
    return build_report(run, workers=0, mistakes=4, erf_images=3)


def test_numbers_are_those_of_eval(page, run, capsys):
    facts = run_json(capsys, "eval", run / "data", "--checkpoint", run, "--workers", 0, "--device", "cpu")
    shown = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))
    assert shown["top-1"] == f"{facts['top1']:.2f} %"
    assert shown["loss"] == f"{facts['val_loss']:.4f}"
    assert shown["calibration error"] == f"{facts['ece']:.2f} %"
    assert shown["images classified"] == str(facts["images"])
    wrong = round(facts["images"] * (1 - facts["top1"] / 100))
    assert f"{min(4, wrong)} of {wrong} wrong answers on {facts['images']} images" in page
    matrix = re.findall(r'<td class="(?:right|few|many|none)">(\d+)</td>', page)
    assert len(matrix) == 100
    assert sum(map(int, matrix)) == facts["images"]
    assert sum(map(int, matrix[::11])) == facts["images"] - wrong


def test_page_is_alone_and_runs_nothing(page):
    elements = Elements(page)
    assert elements.all("script") == elements.all("link") == elements.all("iframe") == []
    assert all(image["src"].startswith("data:image/") for image in elements.all("img"))
    targets = [link["href"] for link in elements.all("a")]
    assert targets
    assert all(target.startswith("#") for target in targets)
    identities = {attributes.get("id") for _, attributes in elements.found}
    assert {target[1:] for target in targets} <= identities
    assert not re.search(r"url\(|@import|\son\w+=", page)
    policy = next(meta["content"] for meta in elements.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")
    assert {"curves", "mistakes", "confusion", "calibration", "classes", "speed", "field", "recipe"} <= identities


def test_names_cannot_break_out(tmp_path):
    """A class, a folder and a setting with markup in their names stay text."""
    evil = "<script>alert(1)</script>"
    names = [evil.replace("/", "|"), "b&b", *(f"c{number}" for number in range(5))]
    run = tmp_path / "<b>run"
    save(network(), _made(run) / "best.safetensors", class_names=names)
    for number, name in enumerate(names):
        folder = _made(tmp_path / "data" / "val" / name)
        Image.new("RGB", (40, 40), (30 * number, 90, 9)).save(folder / "<i>.png")
    config = {"settings": {"model": evil}, "data": str(tmp_path / "data"), "class_names": names}
    (run / "config.yaml").write_text(json.dumps(config))
    record = {"epoch": 0, "step": 1, "train_loss": 1.0, "images_per_second": 1.0, "top1": 9.0, evil: 2}
    (run / "metrics.jsonl").write_text(json.dumps(record))
    (_made(run / "sketch") / "result.json").write_text(json.dumps({"checkpoint": "x", "data": evil, "top1": 50.0}))
    page = build_report(run, workers=0, erf_images=0)
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<i>" not in page
    assert "<b>" not in page


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_what_cannot_be_measured_is_said(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("data"))
    config = copy / "config.yaml"
    config.write_text(re.sub(r"(?m)^data: .*$", "data: gone", config.read_text()))
    page = build_report(copy)
    assert "no images were classified for this page; --data names them: gone does not exist" in page
    assert 'id="curves"' in page
    assert 'id="mistakes"' not in page
    (copy / "best.safetensors").unlink()
    (copy / "last.safetensors").unlink()
    assert "nothing was measured for this page" in build_report(copy)


def test_runs_of_other_tasks_get_their_curves(tmp_path):
    (tmp_path / "config.yaml").write_text("settings: {model: recnext_m3}\ndata: coco\nclass_names: [cat]\n")
    records = [
        {"epoch": epoch, "step": epoch, "train_loss": 2.0, "images_per_second": 4.0, "box_ap": 20.0 + epoch}
        for epoch in range(2)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    page = build_report(tmp_path)
    assert "this is no run of a classifier" in page
    assert "<dt>best box AP</dt><dd>21.00 %</dd>" in page
    assert "<figcaption>Validation, %</figcaption>" in page


def test_corruptions_are_shown(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("data", "*.safetensors"))
    facts = {"checkpoint": "x", "data": "imagenet-c:photos", "mce": 71.25, "corruptions": {}}
    facts["corruptions"]["gaussian_noise"] = {"ce": 64.04, "top1": [70.5, 60.25]}
    (_made(copy / "c") / "result.json").write_text(json.dumps(facts))
    page = build_report(copy)
    for text in ("imagenet-c:photos", "71.25 %", "gaussian_noise", "64.0 %", "70.5 60.2"):
        assert text in page


def test_bars_give_the_calibration_error():
    """ECE is the mean of |accuracy - confidence| over bins, weighted by images (Guo et al., arXiv 1706.04599)."""
    from torchmetrics.functional.classification import binary_calibration_error

    random = torch.Generator().manual_seed(0)
    confidences = torch.rand(400, generator=random)
    right = torch.rand(400, generator=random) < confidences**2
    bars = calibration_bars(confidences, right)
    error = sum(bar.images * abs(bar.accuracy - bar.confidence) for bar in bars) / 400
    assert error == pytest.approx(float(binary_calibration_error(confidences, right.long(), n_bins=15)), abs=1e-6)
    edges = calibration_bars(torch.tensor([1.0, 0.0]), torch.tensor([True, False]), bins=4)
    assert [(bar.low, bar.high) for bar in edges] == [(0, 0.25), (0.75, 1)]


def test_most_frequent_confusions():
    confusion = torch.tensor([[8, 2, 0], [0, 10, 0], [5, 0, 5]])
    assert confusions(confusion, ["a", "b", "c"], most=9) == [("c", "a", 5, 0.5), ("a", "b", 2, 0.2)]


@pytest.mark.slow
def test_in_a_browser(page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    with chromium() as browser:
        for phone, dark in ((True, True), (False, False)):
            visit = Visit(browser, phone=phone, dark=dark)
            visit.page.goto(path.as_uri())
            visit.page.screenshot(path=tmp_path / "report.png", full_page=True)
            with Image.open(tmp_path / "report.png") as shot:
                assert len(shot.convert("RGB").getcolors(2**24)) > 200
            visit.page.locator("summary").first.click()
            visit.check()
            assert [url for url in visit.requests if not url.startswith("data:")] == [path.as_uri()]
