"""train.select: the epoch of a run that is kept and tested."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import read_manifest, write_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.records import read_metrics
from slipform.train.run import loop
from slipform.train.run.loop import fit

Small = Callable[..., RunConfig]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("select", "best"),
    [pytest.param("accuracy", 2, marks=pytest.mark.slow), ("loss", 1), ("last", 3)],
)
def test_an_epoch_is_selected_by_val(
    select: str,
    best: int,
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The validation accuracy in the summary is that of the selected epoch."""
    accuracies, losses = [0.1, 0.5, 0.4], [1.0, 3.0, 2.0]
    original, epoch = loop.evaluate, iter(range(3))  # type: ignore[attr-defined]

    def told(*args: Any) -> Any:
        i = next(epoch)
        return dataclasses.replace(original(*args), top1=accuracies[i], loss=losses[i])

    monkeypatch.setattr(loop, "evaluate", told)
    config = small("train.epochs=3", f"train.select={select}")
    summary = fit(config, shapes, tmp_path, quiet=True)
    assert (summary["best_epoch"], summary["val_accuracy"]) == (best, accuracies[best - 1])


@pytest.mark.usefixtures("no_figures")
def test_an_epoch_is_selected_by_the_training_loss(
    shapes: Path, small: Small, tmp_path: Path
) -> None:
    config = small("train.epochs=3", "train.select=train_loss")
    summary = fit(config, shapes, tmp_path, quiet=True)
    losses = {line["epoch"]: line["train_loss"] for line in read_metrics(tmp_path, "epoch")}
    assert summary["best_epoch"] == min(losses, key=losses.__getitem__)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("select", ["accuracy", "train_loss"])
def test_the_message_about_a_missing_val_split_is_correct(
    select: str, shapes: Path, small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training loss selects an epoch without val, too."""
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    manifest = read_manifest(data)
    splits = {name: split for name, split in manifest.splits.items() if name != "val"}
    write_manifest(data, manifest.model_copy(update={"splits": splits}))
    fit(small("train.epochs=1", f"train.select={select}"), data, tmp_path / "run")
    said = "the weights of the last epoch are saved" in capsys.readouterr().err
    assert said == (select == "accuracy")


@pytest.mark.parametrize("name", ["early_stop_after", "restart_from_best_after"])
def test_selecting_the_last_epoch_excludes_settings_about_the_best(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"train\.{name}.*select"):
        RunConfig().replace("train", {"select": "last", name: 3})


@pytest.mark.usefixtures("no_figures")
def test_a_loss_of_val_is_not_compared_with_one_of_training(
    shapes: Path, small: Small, tmp_path: Path
) -> None:
    """A resumed run may change train.select, if the best result so far can be compared."""
    fit(small("train.epochs=1", "train.select=loss"), shapes, tmp_path, quiet=True)
    with pytest.raises(ConfigError, match=r"train\.select was loss, now it is train_loss"):
        fit(small("train.select=train_loss"), shapes, tmp_path, resume=True, quiet=True)
    fit(small("train.select=accuracy"), shapes, tmp_path, resume=True, quiet=True)
    assert len(read_metrics(tmp_path, "epoch")) == 2


@pytest.mark.usefixtures("no_figures")
def test_val_selects_from_the_epoch_on_that_has_one(
    shapes: Path, small: Small, tmp_path: Path
) -> None:
    """An epoch without val is no better than those that are measured later, on other data."""
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(shapes, data)
    manifest = read_manifest(data)
    splits = {name: split for name, split in manifest.splits.items() if name != "val"}
    write_manifest(data, manifest.model_copy(update={"splits": splits}))
    assert fit(small(), data, run, quiet=True)["best_epoch"] == 2
    longer = small("train.epochs=3")
    summary = fit(longer, shapes, run, resume=True, other_data=True, quiet=True)
    line = read_metrics(run, "epoch")[-1]
    assert (summary["best_epoch"], summary["val_accuracy"]) == (3, line["val_accuracy"])


@pytest.mark.usefixtures("no_figures")
def test_results_on_other_images_of_val_are_not_compared(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger dataset is often harder: no later epoch would be saved, and the run would stop."""
    original, accuracies = loop.evaluate, iter([0.9, 0.8, 0.5, 0.6])  # type: ignore[attr-defined]

    def told(*args: Any) -> Any:
        return dataclasses.replace(original(*args), top1=next(accuracies))

    monkeypatch.setattr(loop, "evaluate", told)
    data, run, patience = tmp_path / "data", tmp_path / "run", "train.early_stop_after=3"
    shutil.copytree(shapes, data)
    manifest = read_manifest(data)
    others = {"val": manifest.split("test"), "test": manifest.split("val")}
    write_manifest(data, manifest.model_copy(update={"splits": manifest.splits | others}))
    fit(small(patience), data, run, quiet=True)
    for _ in range(2):  # and again, with the same images
        again = small("train.epochs=4", patience)
        summary = fit(again, shapes, run, resume=True, other_data=True, quiet=True)
        assert (summary["epochs"], summary["best_epoch"], summary["val_accuracy"]) == (4, 4, 0.6)
