"""A run resumes with its own dataset, and reports the differences of another one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from slipform.pipelines.errors import ConfigError, DatasetError
from slipform.pipelines.manifest import Manifest, read_manifest, write_manifest
from slipform.preprocess.cli import main as prep_command
from slipform.preprocess.prep import prepare
from slipform.train.cli import train, validate
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.records import read_metrics
from slipform.train.run import steps
from slipform.train.run.identity import differences
from slipform.train.run.loop import fit
from slipform.train.step.step import train_step
from tests.pipelines.sharded import write_shards

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]


def test_a_dataset_that_is_gone_is_asked_for(shapes: Path, small: Small, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(shapes, data)
    fit(small("train.epochs=1"), data, run, quiet=True)
    data.rename(tmp_path / "moved")
    says = f"{data}, the dataset of the run, is not a folder: give the folder with it as DATA"
    for command, words in ((validate, [run]), (train, ["--resume", run])):
        done = CliRunner().invoke(command, list(map(str, words)))
        assert done.exit_code == 1
        assert says in done.output


def _changed(manifest: Manifest, how: str) -> Manifest:
    classes = list(manifest.classes)
    train = manifest.splits["train"]
    match how:
        case "renamed":
            return manifest.model_copy(update={"classes": ["cat", *classes[1:]]})
        case "exchanged":
            return manifest.model_copy(update={"classes": [classes[1], classes[0], *classes[2:]]})
        case "removed":
            splits = {
                name: info.model_copy(
                    update={"counts": [sum(info.counts[:2]), *info.counts[2:]], "index_sha256": ""}
                )
                for name, info in manifest.splits.items()
            }
            return manifest.model_copy(update={"classes": classes[1:], "splits": splits})
        case "images":
            train = train.model_copy(update={"sha256": "0" * 64, "index_sha256": ""})
        case "mean":
            return manifest.model_copy(update={"mean": [0.1, 0.2, 0.3]})
        case "fewer":
            counts = [train.counts[0] - 1, *train.counts[1:]]
            update = {"num_samples": train.num_samples - 1, "counts": counts}
            train = train.model_copy(update=update)
        case "split":
            splits = {"train": train, "test": manifest.splits["test"]}
            return manifest.model_copy(update={"splits": splits})
    return manifest.model_copy(update={"splits": {**manifest.splits, "train": train}})


WORDS = {
    "renamed": r'other classes: "cross" is now "cat"',
    "exchanged": "the classes are in another order",
    "removed": "the run has 6 classes, the data 5",
    "images": r"train has other images \(another SHA-256\)",
    "mean": "mean and std differ",
    "fewer": "train had 240 images, now 239",
    "split": "val is missing now",
}
SLOW = ("exchanged", "mean", "split")


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow if how in SLOW else ()) for how in WORDS]
)
def test_resume_refuses_another_dataset_and_changes_nothing(
    how: str, run: Path, shapes: Path, small: Small, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    write_manifest(data, _changed(read_manifest(shapes), how))
    before = (run / "dataset.json").read_bytes()
    with pytest.raises(ConfigError, match=WORDS[how]):
        fit(small("train.epochs=2"), data, run, resume=True, quiet=True)
    assert (run / "dataset.json").read_bytes() == before
    shutil.move(data, tmp_path / "moved")  # the path does not count
    write_manifest(tmp_path / "moved", read_manifest(shapes))
    fit(small("train.epochs=2"), tmp_path / "moved", run, resume=True, device="cpu", quiet=True)


@pytest.mark.parametrize("how", ["renamed", pytest.param("images", marks=pytest.mark.slow)])
def test_other_data_is_allowed_by_the_option_with_a_message(
    how: str,
    run: Path,
    shapes: Path,
    small: Small,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    write_manifest(data, _changed(read_manifest(shapes), how))
    for epochs in (1, 2):  # the weights of the run stay the best, or not
        config = small(f"train.epochs={epochs}")
        fit(config, data, run, resume=True, other_data=True, device="cpu")
        assert ("because --other-data is given" in capsys.readouterr().err) == (epochs == 1)
        assert not differences(read_manifest(run), read_manifest(data))
        assert Classifier.load(run, "cpu").classes == read_manifest(data).classes


@pytest.mark.parametrize("at_end", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_with_another_number_of_images_the_present_epoch_starts_again(
    at_end: bool,
    shapes: Path,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped in the middle of the second epoch or after the first, and resumed with 160 images
    instead of 240: four steps in an epoch instead of six."""
    run, fewer = tmp_path / "run", tmp_path / "fewer"
    if at_end:
        fit(small("train.epochs=1"), shapes, run, device="cpu", quiet=True)
    else:
        original = steps.train_step  # type: ignore[attr-defined]

        def killed(state: Any, *args: Any, **kwargs: Any) -> Any:
            if state.step == 9:
                raise KeyboardInterrupt
            return original(state, *args, **kwargs)

        monkeypatch.setattr(steps, "train_step", killed)
        stopped = small("train.epochs=2", "train.checkpoint_every_steps=3")
        with pytest.raises(KeyboardInterrupt):
            fit(stopped, shapes, run, device="cpu", quiet=True)
        monkeypatch.setattr(steps, "train_step", original)
    sizes = ["--num-train", "160", "--num-val", "60", "--num-test", "60"]
    prep = ["shapes", "--out", str(fewer), *sizes, "--min-size", "40", "--max-size", "96"]
    assert CliRunner().invoke(prep_command, prep).exit_code == 0
    fit(small("train.epochs=2"), fewer, run, resume=True, other_data=True, device="cpu")
    said = capsys.readouterr().err
    assert "160 training images, 240 before" in said
    assert ("epoch 2 starts again from its first image" in said) is not at_end
    first = 6 if at_end else 9
    assert [x["step"] for x in read_metrics(run, "epoch")] == [6, first + 4]
    (_, second) = read_metrics(run, "epoch")
    assert 0 <= second["train_accuracy"] <= 1
    accuracy = second["train_accuracy"] * 160  # a whole number of images
    assert accuracy == pytest.approx(round(accuracy), abs=1e-4)


def test_another_number_of_classes_is_never_allowed(
    run: Path, shapes: Path, small: Small, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    write_manifest(data, _changed(read_manifest(shapes), "removed"))
    with pytest.raises(ConfigError, match=r"the run has 6 classes, the data 5.*number of classes"):
        fit(small("train.epochs=2"), data, run, resume=True, other_data=True, quiet=True)


def test_data_that_are_replaced_during_a_run_are_detected(
    shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(shapes, data)
    original = train_step

    def step(state: Any, *args: Any, **kwargs: Any) -> Any:
        write_manifest(data, _changed(read_manifest(shapes), "images"))
        return original(state, *args, **kwargs)

    monkeypatch.setattr(steps, "train_step", step)
    with pytest.raises(DatasetError, match=r"was replaced while.*other images.*--resume"):
        fit(small("train.epochs=5"), data, run, device="cpu", quiet=True)
    monkeypatch.undo()
    write_manifest(data, read_manifest(shapes))
    summary = fit(small("train.epochs=2"), data, run, resume=True, device="cpu", quiet=True)
    assert summary["epochs"] == 2


def test_resume_does_not_need_the_initial_weights(
    shapes: Path, small: Small, tmp_path: Path, finished: Path
) -> None:
    """The run in model.weights does not exist any more. The checkpoint has all weights."""
    start = tmp_path / "start"
    shutil.copytree(finished, start)
    config, run = small("train.epochs=1", f"model.weights={start}"), tmp_path / "run"
    fit(config, shapes, run, device="cpu", quiet=True)
    shutil.rmtree(start)
    longer = small("train.epochs=2", f"model.weights={start}")
    assert fit(longer, shapes, run, resume=True, device="cpu", quiet=True)["epochs"] == 2
    offline = small("train.epochs=2", f"model.weights={tmp_path / 'elsewhere'}")
    with pytest.raises(ConfigError, match=r"model\.weights was"):
        fit(offline, shapes, run, resume=True, device="cpu", quiet=True)


def test_a_dataset_that_is_prepared_again_for_entry_points_is_the_same(tmp_path: Path) -> None:
    """An older version stored none, like --no-check."""
    image = np.random.default_rng(1).integers(0, 256, (600, 600, 3), np.uint8)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "photos" / name / "1.jpg")
    manifests = [
        prepare(
            "images", source=tmp_path / "photos", out=tmp_path / str(no_check), no_check=no_check,
            val_fraction=0, test_fraction=0,
        )
        for no_check in (True, False)
    ]  # fmt: skip
    old, new = (manifest.splits["train"] for manifest in manifests)
    assert old.sha256 != new.sha256
    assert old.bytes < new.bytes
    assert differences(*manifests) == []


def test_the_same_samples_in_shards_are_the_same_dataset(shapes: Path, tmp_path: Path) -> None:
    """Other shards, or one with other images, are told apart by labels and checksums."""
    whole = read_manifest(shapes)
    found = [read_manifest(write_shards(shapes, tmp_path / str(end), [end])) for end in (5, 9)]
    for a, b in ((whole, found[0]), (found[0], whole), (found[0], found[1])):
        assert differences(a, b) == []
    changed = whole.splits["train"].model_copy(update={"index_sha256": "0" * 64})
    other = whole.model_copy(update={"splits": {**whole.splits, "train": changed}})
    assert differences(found[0], other) == ["train has other images (another SHA-256)"]
    unknown = whole.splits["train"].model_copy(update={"index_sha256": ""})
    other = whole.model_copy(update={"splits": {**whole.splits, "train": unknown}})
    assert differences(found[0], other) == ["train has other images (another SHA-256)"]
