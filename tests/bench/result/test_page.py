"""The HTML page of `bench report` in a headless Chromium: on a desktop and on a phone, light, dark
and printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slipform.bench.result.report import page, read_results
from slipform.bench.suites import layouts
from slipform.train.figures.palette import PALETTES
from tests.bench.result.browser import BROWSER, MISSING, Page, opened
from tests.bench.result.rows import write_results

LAYOUTS = layouts()
RESULTS = Path(__file__).resolve().parents[3] / "bench/results"
# JavaScript that finds faults in the rendered page.
FAULTS = """(() => {
  const faults = [];
  const say = (what, element) => faults.push(what + ": " + element.outerHTML.slice(0, 90));
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) faults.push("wider than the window");
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    if (!svg.getAttribute("aria-label")) say("no words", svg);
    if (frame.width < 200 || frame.height < 40) say("small", svg);
    const texts = [...svg.querySelectorAll("text")].map(t => [t, t.getBoundingClientRect()]);
    for (const [text, box] of texts) {
      if (box.left < frame.left || box.right > frame.right) say("cut", text);
      if (box.width && parseFloat(getComputedStyle(text).fontSize) * frame.width / 360 < 9)
        say("too small to read", text);
      for (const [other, place] of texts)
        if (other !== text && box.left < place.right && place.left < box.right
            && box.top + 2 < place.bottom && place.top + 2 < box.bottom) say("overlaps", text);
    }
  }
  for (const table of document.querySelectorAll("table")) {
    if (table.querySelectorAll("thead th:not([scope=col])").length) say("a heading", table);
    for (const row of table.rows)
      if (row.cells.length !== table.rows[0].cells.length) say("cells", row);
    const place = table.closest("[role=region]");
    if (!place || !place.getAttribute("aria-label") || place.tabIndex !== 0) say("scrolls", table);
  }
  for (const link of document.querySelectorAll("a"))
    if (!document.querySelector(link.getAttribute("href"))) say("leads nowhere", link);
  return faults;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if BROWSER is None:
        pytest.skip(MISSING)
    with opened(tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of few results, some rows without figures."""
    folder = tmp_path_factory.mktemp("page")
    file = folder / "made-up.html"
    file.write_text(page(read_results(write_results(folder / "results"), LAYOUTS), LAYOUTS))
    return file


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the committed results."""
    file = tmp_path_factory.mktemp("page") / "committed.html"
    file.write_text(page(read_results(sorted(RESULTS.glob("*.json")), LAYOUTS), LAYOUTS))
    return file


@pytest.mark.parametrize("which", ["made_up", "committed"])
def test_the_page_fetches_nothing_and_runs_no_script(
    which: str, request: pytest.FixtureRequest
) -> None:
    text = request.getfixturevalue(which).read_text()
    assert not re.search(r'(src|href)="(?!data:|#)|url\(|@import|<script|<iframe', text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", ["made_up", "committed"])
def test_the_page_is_readable(
    which: str, width: int, scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    browser: Page = request.getfixturevalue("browser")
    file: Path = request.getfixturevalue(which)
    browser.open(file, width, scheme)
    assert browser.value("innerWidth") == width
    assert browser.value(FAULTS) == []
    assert browser.requests == [file.as_uri()]
    assert browser.messages == []
    headline = browser.value("document.querySelector('h1').getBoundingClientRect().bottom")
    assert 0 < headline < 450  # visible without scrolling
    browser.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        pixels = np.asarray(image.convert("L"))
        background = image.convert("RGB").getpixel((2, 2))
    assert background == _rgb(PALETTES[scheme]["ground"])
    assert pixels.std() > 8  # a blank page has no text


def test_it_prints_on_white_pages(browser: Page, committed: Path, tmp_path: Path) -> None:
    """The paper is white with dark mode, too. No element is wider than A4 without its margins."""
    browser.open(committed, 1280, "dark")
    browser.pdf(tmp_path / "page.pdf")
    pages = len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes()))
    assert 2 <= pages <= 30
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    paper = {"width": 703, "height": 1016, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **paper)
    assert browser.value(
        "[...document.querySelectorAll('table, svg, p')].filter("
        "e => e.getBoundingClientRect().right > 704).map(e => e.outerHTML.slice(0, 90))"
    ) == []  # fmt: skip
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_numbers_come_first(made_up: Path) -> None:
    text = made_up.read_text()
    headline = re.search(r"<h1>(.*?)</h1>", text)
    assert headline is not None
    assert headline[1] == (
        "Slipform loads images 2.2 times as fast as ffcv &lt;loader&gt;, the fastest other loader."
    )
    order = [text.index(f'id="{part}"') for part in ("figures", "tables", "measured")]
    assert [text.index("<h1>"), text.index('class="numbers"'), *order] == sorted(
        [text.index("<h1>"), text.index('class="numbers"'), *order]
    )
    assert "<b>4,321</b> <span>(4,191 to 4,451)</span>" in text
    for part in ("out of memory", "not installed", "bench loaders", "7 of each figure", "torch"):
        assert part in text, part
    assert not re.search(r"\d[eE][+-]\d\d", text)  # no number has an exponent


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[at : at + 2], 16) for at in (1, 3, 5))


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""

    def luminance(color: str) -> float:
        parts = (value / 255 for value in _rgb(color))
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", PALETTES)
def test_colors_have_contrast(scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for what is drawn."""
    colors = PALETTES[scheme]
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    for ground in ("ground", "panel"):
        for text in ("ink", "muted", "accent"):
            assert _contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
        for drawn in ("ours", "peer", "mark"):
            assert _contrast(colors[drawn], colors[ground]) >= 3, (drawn, ground)
