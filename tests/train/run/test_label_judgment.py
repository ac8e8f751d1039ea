"""`validate` and `sf.judge` of images with several labels: intervals, figures, one HTML page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import slipform as sf
from slipform.pipelines.errors import SlipformError
from slipform.train.cli import validate
from slipform.train.config.run_config import RunConfig
from slipform.train.inference import maps
from slipform.train.inference.answers import answers_of, label_answers_of
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.pictures import label_pictures_of
from slipform.train.run.loop import fit
from slipform.train.scores.label_judgment import LABEL_HEADLINES, LabelJudgment
from slipform.train.step.label_metrics import LabelEvaluation
from tests.bench.result.browser import BROWSER, MISSING, opened
from tests.bench.result.test_page import FAULTS
from tests.train.drawing import without_figures
from tests.train.run.labeled import COLORS, SIZES, dataset_of

SETS = ('loss.name="bce"', "train.epochs=2", 'augment.crop="center"', "optimizer.lr=0.1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small: Callable[..., RunConfig]) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small(*SETS), dataset_of(folder / "data", "multi"), folder / "run", quiet=True)
    return folder / "run"


@pytest.fixture(scope="module")
def judged(run: Path) -> LabelJudgment:
    found = sf.judge(run, device="cpu")
    assert isinstance(found, LabelJudgment)
    return found


def test_the_figures_are_those_of_evaluate(run: Path, judged: LabelJudgment) -> None:
    classifier = Classifier.load(run, "cpu")
    result = classifier.evaluate()
    assert isinstance(result, LabelEvaluation)
    np.testing.assert_allclose(judged.answers.probabilities, result.probabilities, atol=1e-7)
    assert judged.answers.indices.tolist() == list(range(SIZES["test"]))
    expected = {
        "map": result.mean_average_precision, "f1": result.macro_f1, "loss": result.loss,
        "auroc": result.values["auroc"], "precision": result.scores.precision.mean(),
        "recall": result.scores.recall.mean(),
    }  # fmt: skip
    for name, value in expected.items():
        one = judged.figures[name]
        assert one.value == pytest.approx(value, rel=1e-6)
        assert one.low <= one.value <= one.high
    assert judged.figures["loss"].low < judged.figures["loss"].high
    assert set(judged.figures) == set(LABEL_HEADLINES)
    got = [one.value for one in judged.average_precision]
    np.testing.assert_allclose(got, result.average_precision)
    np.testing.assert_allclose(judged.auroc, result.auroc)
    with pytest.raises(SlipformError, match="several labels"):
        answers_of(classifier)


def test_pictures_have_labels_probabilities_and_maps(run: Path, judged: LabelJudgment) -> None:
    classifier = Classifier.load(run, "cpu")
    positions = judged.top_losses[:6]
    names = list(COLORS)
    for one, at in zip(label_pictures_of(classifier, judged, positions), positions, strict=True):
        shares, positive = judged.answers.probabilities[at], judged.answers.positive[at]
        assert one.name == f"test:{judged.answers.indices[at]}"
        assert {name for name, _ in one.labels} == {names[c] for c in np.flatnonzero(positive)}
        wrong = ~positive & (shares >= judged.thresholds)
        assert {name for name, _ in one.wrong} == {names[c] for c in np.flatnonzero(wrong)}
        losses = -np.log(np.where(positive, shares, 1 - shares))
        assert one.worst == names[int(losses.argmax())]
        assert one.loss == pytest.approx(losses.mean(), rel=1e-5)
        assert one.is_label == positive[names.index(one.worst)]
        assert one.map is None
    assert [one.loss for one in label_pictures_of(classifier, judged, positions)] == sorted(
        judged.answers.losses, reverse=True
    )[:6]
    if maps.have_maps():
        (one,) = label_pictures_of(classifier, judged, positions[:1], maps=True)
        assert one.map is not None
        assert one.map.shape == one.image.shape[:2]


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    words = [
        run,
        "--report",
        folder / "page.html",
        "--figures",
        folder,
        "--device",
        "cpu",
        "--json",
    ]
    result = CliRunner().invoke(validate, [str(one) for one in words])
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["temperature"] > 0
    assert values["intervals"]["map"][0] <= values["map"] <= values["intervals"]["map"][1]
    assert set(values["classes"]) == set(COLORS)
    assert {path.name for path in folder.glob("*.png")} == {
        "curves.png", "per_class.png", "kernels.png", "first_outputs.png", "reliability.png",
        "top_losses.png", *(("class_maps.png",) if maps.have_maps() else ()),
    }  # fmt: skip
    return folder / "page.html"


def test_the_page_is_one_file_with_the_judgment(report: Path, judged: LabelJudgment) -> None:
    text = report.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)|url\((?!#)|@import|<script|<iframe', text)
    precision = judged.figures["map"]
    assert f"<h1>mAP {precision.value:.3f} ({precision.low:.3f} to {precision.high:.3f})" in text
    lines = re.findall(r'<tr><th scope="row">([^<]*)</th>((?:<td>[^<]*</td>)*)', text)
    cells = {name: re.findall("<td>([^<]*)</td>", rest) for name, rest in lines}
    for key, one in judged.figures.items():
        assert cells[LABEL_HEADLINES[key]] == [
            f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}"
        ]  # fmt: skip
    worst = [judged.classes[c] for c in judged.worst_classes]
    assert [name for name in cells if name in judged.classes] == worst
    for c in judged.worst_classes:
        images, value, ends, area, *rest = cells[judged.classes[c]]
        one = judged.average_precision[c]
        assert int(images) == judged.answers.positive[:, c].sum()
        assert (value, ends) == (f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}")
        columns = (judged.scores.recall, judged.scores.precision, judged.scores.f1)
        assert rest == [*(f"{x[c]:.4f}" for x in columns), f"{judged.thresholds[c]:.4f}"]
        assert area == f"{judged.auroc[c]:.4f}"
    names = re.findall(r'<span class="file">([^<]*)</span>', text)
    assert names[:24] == [f"test:{judged.answers.indices[i]}" for i in judged.top_losses[:24]]
    assert "which was fitted on val" in text
    assert "[train]" in text


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_can_be_read(report: Path, tmp_path: Path, width: int) -> None:
    if BROWSER is None:
        pytest.skip(MISSING)
    with opened(tmp_path / "profile") as page:
        page.open(report, width, "light")
        # Figures of matplotlib shrink with a phone; they can be enlarged there.
        shrunk = ("too small to read",) if width < 1000 else ()
        assert [fault for fault in page.value(FAULTS) if not fault.startswith(shrunk)] == []
        assert page.messages == []


def test_the_command_prints_intervals(run: Path, judged: LabelJudgment) -> None:
    result = CliRunner().invoke(validate, [str(run), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    for key, one in judged.figures.items():
        assert f"{LABEL_HEADLINES[key]}: {one}" in result.output
    assert f"test: mAP {judged.figures['map'].value:.4f}, F1" in result.output


def test_the_seed_decides_about_the_intervals(run: Path, judged: LabelJudgment) -> None:
    again, other = (sf.judge(run, device="cpu", seed=seed).figures["loss"] for seed in (0, 1))
    assert again == judged.figures["loss"]
    assert other.value == again.value
    assert other.low != again.low


def test_memory_is_checked_before(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slipform.train.inference import answers
    from slipform.train.scores.label_bootstrap import label_memory_bytes

    needed: Any = 5 * 4 * SIZES["test"] * 3 + label_memory_bytes(SIZES["test"], 3)
    classifier = Classifier.load(run, "cpu")
    monkeypatch.setattr(answers, "free_memory_bytes", lambda: needed)
    assert len(label_answers_of(classifier)) == SIZES["test"]
    monkeypatch.setattr(answers, "free_memory_bytes", lambda: needed - 1)
    with pytest.raises(SlipformError, match="smaller --split"):
        label_answers_of(classifier)
