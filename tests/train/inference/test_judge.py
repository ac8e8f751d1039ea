"""`validate` of a run: answers, pictures, maps, figures and the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from slipform.pipelines.errors import SlipformError
from slipform.train.cli import validate
from slipform.train.config.run_config import RunConfig
from slipform.train.figures import result as result_figures
from slipform.train.inference import answers as answering
from slipform.train.inference import maps, showing
from slipform.train.inference.answers import answers_of
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.judge import judge_model
from slipform.train.inference.pictures import pictures_of
from slipform.train.run.loop import fit
from slipform.train.scores.bootstrap import memory_bytes
from tests.bench.result.browser import BROWSER, MISSING, Page, opened
from tests.bench.result.test_page import FAULTS
from tests.train.drawing import without_figures

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def run(
    shapes: Path, tmp_path_factory: pytest.TempPathFactory, small: Callable[..., RunConfig]
) -> Path:
    out = tmp_path_factory.mktemp("judge") / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small("train.epochs=1"), shapes, out, device="cpu", quiet=True)
    return out


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return Classifier.load(run, "cpu")


def test_answers_are_in_the_order_of_the_dataset(classifier: Classifier) -> None:
    answers, result = answers_of(classifier), classifier.evaluate()
    assert answers.indices.tolist() == list(range(60))
    assert (torch.from_numpy(answers.confusion) == result.confusion).all()
    found = judge_model(classifier)
    assert found.figures["top1"].value == result.top1
    assert found.figures["top5"].value == pytest.approx(result.top5)
    assert found.figures["loss"].value == pytest.approx(result.loss, rel=1e-5)
    assert (
        found.calibration.temperature
        == judge_model(classifier, split="val").calibration.temperature
    )


def test_answers_refuse_what_does_not_fit_into_memory(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logits of 60 images of 6 classes, and the resamples of the intervals."""
    needed = 5 * 4 * 60 * 6 + memory_bytes(60, 6)
    monkeypatch.setattr(answering, "free_memory_bytes", lambda: needed)
    assert len(answers_of(classifier)) == 60
    monkeypatch.setattr(answering, "free_memory_bytes", lambda: needed - 1)
    with pytest.raises(SlipformError, match="smaller --split"):
        answers_of(classifier)


def test_pictures_have_names_probabilities_and_the_pixels_that_the_net_sees(
    classifier: Classifier,
) -> None:
    judged = judge_model(classifier)
    positions = judged.top_losses[:5]
    found = pictures_of(classifier, judged.answers, judged.split, positions)
    with classifier.open_split() as loader:
        seen = torch.cat([batch.images.float() for batch in loader]).numpy()
    mean, std = (np.array(x)[:, None, None] for x in classifier.spec.normalize)
    for one, position in zip(found, positions, strict=True):
        index, label = judged.answers.indices[position], judged.answers.labels[position]
        assert one.name == f"test:{index}"
        pixels = ((seen[index] * std + mean) * 255).transpose(1, 2, 0)
        assert one.image.shape == (32, 32, 3)
        assert np.abs(one.image - pixels).max() <= 2  # rendered by the two ways of evaluation
        assert one.loss == judged.answers.losses[position]
        assert one.actual == judged.classes[label]
        assert one.predicted == judged.classes[judged.answers.predicted[position]]
        assert -np.log(one.actual_probability) == pytest.approx(one.loss, rel=1e-4)
        assert one.probability == pytest.approx(judged.answers.confidence()[position], rel=1e-4)
        assert one.maps is None
    losses = [one.loss for one in found]
    assert losses == sorted(judged.answers.losses, reverse=True)[:5]
    assert pictures_of(classifier, judged.answers, judged.split, []) == []


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    out = folder / "new" / "page.html"
    arguments = [run, "--report", out, "--figures", folder, "--device", "cpu", "--json"]
    result = CliRunner().invoke(validate, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["intervals"]["top1"][0] <= values["top1"] <= values["intervals"]["top1"][1]
    assert len(values["classes"]) == 6
    drawn = {path.name for path in folder.glob("*.png")}
    assert drawn == {
        "curves.png", "per_class.png", "confusion.png", "confused_pairs.png", "kernels.png",
        "first_outputs.png", "reliability.png", "top_losses.png",
        *(("class_maps.png",) if maps.have_maps() else ()),
    }  # fmt: skip
    return out


def test_the_page_is_one_file_with_the_judgment(report: Path, classifier: Classifier) -> None:
    text = report.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)|url\((?!#)|@import|<script|<iframe', text)
    assert len(text) < 3_000_000
    judged = judge_model(classifier)
    top1, worst = judged.figures["top1"], judged.worst_classes
    assert f"<h1>{top1.value:.1%} of 60 test images are classified correctly" in text
    lines = re.findall(r'<tr><th scope="row">([^<]*)</th>((?:<td>[^<]*</td>)*)', text)
    cells = {name: re.findall("<td>([^<]*)</td>", rest) for name, rest in lines}
    assert cells["F1, mean over classes"][0] == f"{judged.figures['f1'].value:.4f}"
    assert [name for name in cells if name in judged.classes] == [judged.classes[c] for c in worst]
    scores = judged.scores
    for c in worst:
        images, *numbers = cells[judged.classes[c]]
        assert int(images) == scores.images[c]
        columns = (scores.recall, scores.precision, scores.f1, judged.auroc)
        assert numbers == [f"{column[c]:.4f}" for column in columns]
    names = re.findall(r'<span class="file">([^<]*)</span>', text)
    assert names[:24] == [f"test:{judged.answers.indices[i]}" for i in judged.top_losses[:24]]
    assert len(names) == 24 + 8 * maps.have_maps()
    if not maps.have_maps():
        assert text.count(escape('pip install "slipform[judge]"')) == 1
    assert "[train]" in text


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if BROWSER is None:
        pytest.skip(MISSING)
    with opened(tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_can_be_read(report: Path, browser: Page, width: int, scheme: str) -> None:
    browser.open(report, width, scheme)
    found = browser.value(FAULTS)
    # Figures of matplotlib shrink with a phone; they can be enlarged there.
    shrunk = ("too small to read",) if width < 1000 else ()
    assert [fault for fault in found if not fault.startswith(shrunk)] == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [report.as_uri()]
    assert browser.messages == []
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    ink = browser.value("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert ink == browser.value("getComputedStyle(document.body).color")


def test_mistakes_get_one_clear_line(run: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ([run, "--split", "tset"], '"test"'),
        ([tmp_path], "not a run folder"),
        ([run, tmp_path], "dataset"),
    ):
        result = CliRunner().invoke(validate, [str(one) for one in arguments])
        assert result.exit_code == 1
        assert words in result.output, result.output
        assert isinstance(result.exception, SystemExit)


@pytest.mark.slow
def test_without_torchcam_the_page_says_what_to_install(
    run: Path, tmp_path: Path, empty_svgs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "have_maps", lambda: False)
    monkeypatch.setattr(showing, "_draw_classes", lambda *_: None)
    monkeypatch.setattr(result_figures, "first_layer", lambda *_: None)
    page = tmp_path / "page.html"
    arguments = [run, "--report", page, "--figures", tmp_path / "figures", "--device", "cpu"]
    result = CliRunner().invoke(validate, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    told = 'pip install "slipform[judge]"'
    assert result.stderr.count(told) == 1
    assert page.read_text().count(escape(told)) == 1
    assert not (tmp_path / "figures/class_maps.png").exists()
    assert (tmp_path / "figures/top_losses.png").is_file()
