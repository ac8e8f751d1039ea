"""The page of a run: names are texts, and the sentences about the temperature."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from slipform.train.figures.draw import new_figure
from slipform.train.figures.pictures import Picture
from slipform.train.page.parts import Replayed
from slipform.train.page.run_page import run_page
from slipform.train.scores.answers import Answers
from slipform.train.scores.judgment import Judgment, judge

WILD = '<b class="x">&amp;"$1$\n</b>'


def _answers(num: int, seed: int) -> Answers:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num, 3)).astype(np.float32)
    return Answers(logits, rng.integers(0, 3, num), np.arange(num))


def _page(judged: Judgment, tmp_path: Path) -> str:
    image = np.zeros((8, 8, 3), np.uint8)
    picture = Picture(image, WILD, WILD, WILD, 0.5, 0.25, 1.0, (image[..., 0] / 1.0,) * 2)
    return run_page(
        tmp_path / "run", judged, facts=[("net", WILD)], settings=f'name = "{WILD}"',
        losses=[picture], maps=[picture], notes=[WILD],
        batch=Replayed(new_figure(1)[0], WILD, WILD),
    )  # fmt: skip


class _Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text = list[tuple[str, dict[str, str | None]]](), ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_are_texts_and_never_html(tmp_path: Path) -> None:
    judged = judge("test", [WILD, "b", "c"], _answers(40, 0), _answers(40, 1))
    found = _Tags(_page(judged, tmp_path))
    assert not [tag for tag, given in found.tags if given.get("class") == "x"]
    assert found.text.count('<b class="x">&amp;"$1$') >= 7
    assert "The step that stood out" in found.text
    alternatives = [given["alt"] for tag, given in found.tags if tag == "img"]
    assert all('<b class="x">&amp;"$1$' in (text or "") for text in alternatives)
    assert len(alternatives) == 1 + 2  # the predicted class is the true one: a map for both


def test_what_is_said_about_the_temperature(tmp_path: Path, empty_svgs: None) -> None:
    own, val = _answers(40, 0), _answers(40, 1)
    names = list("abc")
    after = judge("test", names, own, val)
    assert f"temperature {after.calibration.temperature:.3f}, which was fitted" in _page(
        after, tmp_path
    )
    assert "cannot show what it improves" in _page(judge("val", names, own, own), tmp_path)
    assert "No temperature was fitted" in _page(judge("test", names, own), tmp_path)
    broken = dataclasses.replace(val, logits=np.full_like(val.logits, np.nan))
    assert "No temperature was fitted" in _page(judge("test", names, own, broken), tmp_path)
    assert "test has no images." in _page(judge("test", names, _answers(0, 0)), tmp_path)
