"""The page about the reports' experiments: its totals, and the committed page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from slipform.bench.commands.experiments import FOLDER
from slipform.bench.experiments import page, runs
from slipform.bench.experiments.runs import Outcome
from slipform.bench.experiments.weights import weight_files
from slipform.models.spec import PRETRAINED
from slipform.pipelines.errors import ConfigError
from slipform.train.config.recipe import SweepRun, load_recipe
from slipform.train.sweep.table import stated_settings

NUM_RUNS, NUM_CONCLUSIONS = 142, 108  # of the corrected list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the committed folder without tables."""
    for name in (page.CHECKS, "differences.md"):
        shutil.copy(FOLDER / name, tmp_path / name)
    return tmp_path


def _table(folder: Path, recipe: str, lines: list[str]) -> None:
    own = folder / recipe.replace("/", "-")
    own.mkdir()
    (own / "table.md").write_text(f"# {recipe} (A1)\n")
    header = "run,seeds,settings,reported_val_accuracy,val_accuracy,test_accuracy,note"
    (own / "table.csv").write_text("\n".join([header, *lines]) + "\n")


def test_the_committed_page_matches_the_committed_tables(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "experiments")
    for name in ("README.md", page.FIGURE):
        (tmp_path / "experiments" / name).unlink()
    page.write_page(tmp_path / "experiments")
    for name in ("README.md", page.FIGURE):
        fresh = (tmp_path / "experiments" / name).read_text(encoding="utf-8")
        assert fresh == (FOLDER / name).read_text(encoding="utf-8"), "run: bench experiments"


def test_the_totals_are_counted(folder: Path) -> None:
    recipe = load_recipe("caltech101/alexnet-learning-rate")
    own = {run.name: stated_settings(recipe, run) for run in recipe.runs}
    assert len(set(own.values())) == len(own)
    _table(
        folder,
        recipe.name,
        [
            f"lr-0.1,2,{own['lr-0.1']},0.1848,0.2,0.19,",
            f"lr-0.01,1,{own['lr-0.01']},0.3021,0.3,0.29,",
            f"lr-0.001,1,{own['lr-0.1']},0.09,0.4,0.4,epochs: 5",  # other settings
            f'lr-1.0,0,{own["lr-1.0"]},,,,"diverged, as reported"',
        ],
    )
    found = runs.outcomes(folder)
    assert len(found) == NUM_RUNS
    states = {one.run.name: one.state for one in found if one.study == "A1"}
    assert states == {
        "lr-0.1": "measured",
        "lr-0.01": "measured",
        "lr-0.001": "older or shorter",
        "lr-1.0": "measured",
    }
    text = page.write_page(folder).read_text(encoding="utf-8")
    assert f"Of {NUM_RUNS} runs:" in text
    assert "- 3 have a result of the recipe's settings at full length (3 trainings" in text
    assert "- 1 have only a result of fewer epochs" in text
    verdicts = re.findall(r"^\| A1 \| .* \| ([a-z ]+) \| `?", text, re.MULTILINE)
    # lr-0.001 has no result with its settings, so checks that need it were not tested.
    assert verdicts == ["holds", "not tested", "not tested", "no check", "no check", "holds"]
    assert f"Of {NUM_CONCLUSIONS} conclusions of the reports 2 hold, 0 do not hold" in text
    svg = (folder / page.FIGURE).read_text(encoding="utf-8")
    assert "A1 lr-0.1: reported 0.185, measured 0.2" in svg
    assert svg.count('<circle class="ours"') == 2 + 1  # and one in the legend
    assert svg.count('<circle class="hollow"') == 1 + 1


def test_every_check_names_runs_that_exist() -> None:
    names = {recipe.study: {run.name for run in recipe.runs} for recipe in runs.studies()}
    for study, checks in page.read_checks(FOLDER / page.CHECKS).items():
        for check in checks:
            for other, run in re.findall(r'(?:\b([A-E]\d)\.)?\w+\["([^"]+)"\]', check):
                assert run in names[other or study], (study, check)


def test_a_study_with_too_few_checks_is_named(folder: Path) -> None:
    text = (folder / page.CHECKS).read_text(encoding="utf-8")
    (folder / page.CHECKS).write_text(text.replace("A1 = [\n", "A1 = []\nunused = [\n"))
    with pytest.raises(ConfigError, match="A1 has 0 checks"):
        page.write_page(folder)


@pytest.mark.parametrize("word", [*PRETRAINED, "IMAGENET1K_V1"])
def test_the_file_of_each_word_for_weights(word: str) -> None:
    one = Outcome(
        "A1", "r", SweepRun("a", {}, {}), {"name": "resnet18", "weights": word}, "not run"
    )
    ((name, file, megabytes),) = weight_files([one])
    assert (name, file) == ("resnet18", "resnet18-f37072fd.pth")
    assert megabytes == pytest.approx(46.8, abs=0.1)
