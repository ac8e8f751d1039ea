"""The step that stands out: against a plain loop; its images are those that the step saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from click.testing import CliRunner

from slipform.train.cli import validate
from slipform.train.config.run_config import RunConfig
from slipform.train.figures.pictures import to_uint8
from slipform.train.replay import outstanding, sheet
from slipform.train.run.loop import fit
from tests.train.replay.conftest import Seen

pytestmark = pytest.mark.usefixtures("no_figures", "empty_svgs")


def _write(run: Path, losses: list[float]) -> None:
    lines = [
        json.dumps({"kind": "step", "step": step, "epoch": 1, "loss": loss, "lr": 0.1})
        for step, loss in enumerate(losses, start=1)
    ]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_the_step_is_that_of_a_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the windows are divided, and where losses that are not finite lie between."""
    monkeypatch.setattr(outstanding, "_ROWS", 7)
    for seed in range(20):
        draws = np.random.default_rng(seed)
        losses = list(np.exp(draws.normal(size=60)) / np.arange(1, 61))
        _write(tmp_path, [float("nan"), *losses, float("inf")])
        ratios = {i: losses[i] / median(losses[i - 20 : i]) for i in range(20, 60)}
        right = max(ratios, key=lambda i: ratios[i])
        found = outstanding.outstanding_step(tmp_path)
        assert found is not None
        assert (found.step, found.loss) == (right + 2, losses[right])
        assert found.usual == pytest.approx(median(losses[right - 20 : right]))


@pytest.mark.parametrize("losses", [[], [1.0] * 20, [0.0] * 30])
def test_a_short_run_has_no_such_step(tmp_path: Path, losses: list[float]) -> None:
    _write(tmp_path, losses)
    assert outstanding.outstanding_step(tmp_path) is None
    assert outstanding.outstanding_batch(tmp_path) is None


def test_the_page_shows_the_images_that_the_step_saw(
    small: Callable[..., RunConfig],
    shapes: Path,
    tmp_path: Path,
    seen: Seen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, page = tmp_path / "a run", tmp_path / "page.html"
    fit(small("train.batch_size=16"), shapes, run, device="cpu", quiet=True)
    found = outstanding.outstanding_step(run)
    assert found is not None
    drawn = list[np.ndarray]()  # type: ignore[type-arg]
    original = sheet.sheet_figure

    def kept(shown, at):  # type: ignore[no-untyped-def]
        drawn.append(to_uint8(shown.batch.images[at], shown.normalize))
        return original(shown, at)

    monkeypatch.setattr(outstanding, "sheet_figure", kept)
    done = CliRunner().invoke(validate, [str(run), "--report", str(page), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    assert "The step that stood out" in text
    assert f"Step {found.step} of epoch" in text
    assert f"a run&#x27; --step {found.step}</code>" in text
    (batch,) = seen[found.step]
    np.testing.assert_array_equal(drawn[0], to_uint8(batch.images, ((0.5,) * 3, (0.5,) * 3)))


@pytest.mark.parametrize(
    "moved",
    [
        pytest.param(True, id="the same images", marks=pytest.mark.slow),
        pytest.param(False, id="other images", marks=pytest.mark.slow),
    ],
)
def test_the_page_for_a_dataset_that_is_given(
    moved: bool, small: Callable[..., RunConfig], shapes: Path, shapes_raw: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """A dataset that has moved shows the batch. For another dataset the page has none."""
    run, page, data = tmp_path / "run", tmp_path / "page.html", tmp_path / "data"
    shutil.copytree(shapes, data)
    fit(small("train.epochs=1", "train.batch_size=8"), data, run, device="cpu", quiet=True)
    data.rename(tmp_path / "moved")
    given = tmp_path / "moved" if moved else shapes_raw
    words = [run, given, "--report", page, "--device", "cpu"]
    done = CliRunner().invoke(validate, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert ("The step that stood out" in page.read_text(encoding="utf-8")) == moved
    assert "cannot be shown" not in done.stderr


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(False, id="more steps", marks=pytest.mark.slow),
        pytest.param(True, id="other images"),
    ],
)
def test_a_batch_that_cannot_be_made_is_said_on_the_page(
    changed: bool, small: Callable[..., RunConfig], shapes: Path, shapes_raw: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """The run has recorded more steps than it planned, or its dataset has other images now."""
    run, page, data = tmp_path / "run", tmp_path / "page.html", tmp_path / "data"
    shutil.copytree(shapes, data)
    fit(small("train.epochs=1", "train.batch_size=8"), data, run, device="cpu", quiet=True)
    if changed:
        shutil.rmtree(data)
        shutil.copytree(shapes_raw, data)
    else:
        _write(run, [1.0] * 39 + [2.0])
    done = CliRunner().invoke(validate, [str(run), "--report", str(page), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    why = f"{data} has other training images" if changed else "step 40: give a step from 1 to 30"
    says = f"The step that stood out cannot be shown: {why}"
    assert says in page.read_text(encoding="utf-8")
    assert says in done.stderr
