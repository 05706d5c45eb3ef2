"""A headless Chromium where there is one, and what its pages are asked."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# ratios of contrast (WCAG 2.2, 1.4.3) of all visible text below 4.5, in words
_FAINT_TEXT = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const { rgb, a } = parse(getComputedStyle(e).backgroundColor);
      if (a > 0) return rgb;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const words = walker.currentNode.textContent.trim();
    const ignored = ["STYLE", "SCRIPT", "TITLE", "DESC", "NOSCRIPT"].includes(element.tagName.toUpperCase());
    if (!words || ignored || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const color = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(parse(color).rgb), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${words}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""

# images without a description, controls without a name, jumps in the order of headings
_UNNAMED = """() => {
  const found = [];
  for (const image of document.querySelectorAll("img")) if (!image.hasAttribute("alt")) found.push("img without alt");
  for (const drawing of document.querySelectorAll("svg")) {
    if (drawing.getAttribute("role") !== "img" && drawing.getAttribute("aria-hidden") !== "true") found.push("svg");
  }
  for (const drawing of document.querySelectorAll("svg[role=img]")) {
    for (const id of drawing.getAttribute("aria-labelledby").split(" ")) {
      if (!document.getElementById(id)?.textContent) found.push(`svg without ${id}`);
    }
  }
  for (const input of document.querySelectorAll("input")) if (!input.labels.length) found.push(`input ${input.id}`);
  let last = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const level = Number(heading.tagName[1]);
    if (level > last + 1) found.push(`${heading.textContent} jumps to level ${level}`);
    last = level;
  }
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  if (!document.documentElement.lang) found.push("no language");
  if (!document.title) found.push("no title");
  return found;
}"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright; the test is skipped, with the reason, where it cannot be had."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(f"no Chromium is installed: none of {', '.join(_NAMES)} is on the path")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page at the size of a phone or a desk, and everything it asked for or complained about."""

    def __init__(self, browser: Any, *, phone: bool, dark: bool = False) -> None:
        size = {"width": 390, "height": 844} if phone else {"width": 1100, "height": 900}
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(viewport=size, is_mobile=phone, color_scheme=scheme)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def check(self) -> None:
        """Text can be read, everything has a name, nothing is wider than the screen."""
        assert self.page.evaluate(_FAINT_TEXT) == []
        assert self.page.evaluate(_UNNAMED) == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert self.complaints == []
