"""The page of a run with several labels: names are texts, and splits without images have a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slipform.train.figures.draw import new_figure
from slipform.train.figures.label_pictures import (
    LabelPicture,
    label_losses_figure,
    label_maps_figure,
)
from slipform.train.page.label_page import label_page
from slipform.train.page.parts import Replayed
from slipform.train.scores.label_answers import LabelAnswers
from slipform.train.scores.label_judgment import judge_labels
from tests.train.page.test_run_page import WILD, _Tags


def answers_of(num: int) -> LabelAnswers:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(num, 3)).astype(np.float32)
    return LabelAnswers(logits, rng.random((num, 3)) < 0.4, np.arange(num))


def picture() -> LabelPicture:
    image, several = (
        np.zeros((8, 8, 3), np.uint8),
        [(WILD, 0.25), *((f"l{k}", 0.5) for k in range(4))],
    )
    return LabelPicture(
        image, WILD, several, [(WILD, 0.5)], WILD, 0.25, True, 1.0, image[..., 0] / 1.0
    )


def test_names_are_texts_and_never_html(tmp_path: Path) -> None:
    judged = judge_labels("test", [WILD, "b", "c"], answers_of(40), [0.5] * 3)
    page = label_page(
        tmp_path / "run", judged, facts=[("net", WILD)], settings=f'name = "{WILD}"',
        losses=[picture()], maps=[picture()], notes=[WILD],
        batch=Replayed(new_figure(1)[0], WILD, WILD),
    )  # fmt: skip
    found = _Tags(page)
    assert not [tag for tag, given in found.tags if given.get("class") == "x"]
    assert found.text.count('<b class="x">&amp;"$1$') >= 7
    assert "and 2 more" in found.text
    alternatives = [given["alt"] or "" for tag, given in found.tags if tag == "img"]
    assert all('<b class="x">&amp;"$1$' in text for text in alternatives)
    assert len(alternatives) == 3
    for draw in (label_losses_figure, label_maps_figure):
        texts = [axes.get_title() for axes in draw([picture()]).axes]
        assert any("label" in text for text in texts)


def test_a_split_without_images_has_a_page(tmp_path: Path) -> None:
    judged = judge_labels("test", list("abc"), answers_of(0), [0.5] * 3)
    page = label_page(tmp_path / "run", judged, facts=[], settings="")
    assert "<h1>test has no images." in page
    assert "No image of this split has 3 of the classes." in page
