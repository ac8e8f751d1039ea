"""The starts of a run: which changes are recorded, and which steps and samples are known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from slipform.pipelines.errors import ConfigError, DatasetError, SlipformError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.sample_names import read_names
from slipform.preprocess.cli import main as prep
from slipform.train.cli import replay
from slipform.train.config.run_config import RunConfig
from slipform.train.replay import batches as module
from slipform.train.replay.difference import first_difference
from slipform.train.replay.history import history, place_of_step
from slipform.train.replay.sample import find_sample
from slipform.train.run import loop
from slipform.train.run.folder import run_config
from slipform.train.run.identity import images_in
from slipform.train.run.loop import fit
from slipform.train.run.starts import STARTS, read_starts
from tests.train.replay.conftest import Finished, Seen, assert_all, forget_after

Small = Callable[..., RunConfig]
Trained = Callable[..., Finished]
pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.mark.slow
def test_a_short_resume_that_moves_the_position(
    shapes: Path, tmp_path: Path, small: Small, seen: Seen
) -> None:
    """After 5 batches of 40 the epoch has no batch of 64: the resume goes to the next epoch. Then
    the run goes on with batches of 40, at a position that its first start does not predict."""
    run = tmp_path / "run"
    often = "train.checkpoint_every_steps=1"
    fit(small("train.epochs=1", often), shapes, run, device="cpu", quiet=True)
    forget_after(run, 5)
    fit(
        small("train.epochs=1", "train.batch_size=64"),
        shapes,
        run,
        device="cpu",
        quiet=True,
        resume=True,
    )
    assert list(seen) == list(range(1, 7))  # the sixth step was before the resume
    del seen[6]
    fit(small(often), shapes, run, device="cpu", quiet=True, resume=True)
    assert list(seen) == list(range(1, 12))
    assert [(one.step, one.epoch, one.seen) for one in read_starts(run)] == [(0, 0, 0), (5, 1, 0)]
    assert_all(run, seen)


def test_all_changed_settings_are_recorded(
    shapes: Path, tmp_path: Path, seen: Seen, trained: Trained
) -> None:
    """Also those that have no effect on batches: a comparison names them."""
    base, run = trained().run, trained().copied(tmp_path / "run")
    forget_after(run, 8)
    changed = run_config(run).replace("optimizer.lr", 0.05)
    fit(changed, shapes, run, device="cpu", quiet=True, resume=True)
    segments = history(run)
    rates = [place_of_step(segments, step).segment.config.optimizer.lr for step in (8, 9)]
    assert rates == [0.02, 0.05]
    found = first_difference(base, run)
    assert (found.step, found.what, found.settings) == (
        10,
        "weights",
        {"optimizer.lr": (0.02, 0.05)},
    )
    assert_all(run, {**trained().seen, **seen})


def test_a_dataset_that_moved(shapes: Path, tmp_path: Path, small: Small, seen: Seen) -> None:
    """All segments with its images use the new folder, without a new start."""
    before, now, run = tmp_path / "before", tmp_path / "now", tmp_path / "run"
    shutil.copytree(shapes, before)
    fit(small(), before, run, device="cpu", quiet=True)
    forget_after(run, 8)
    before.rename(now)
    fit(small(), now, run, device="cpu", quiet=True, resume=True)
    assert len(read_starts(run)) == 1
    assert_all(run, seen)
    again = now.rename(tmp_path / "again")
    with pytest.raises(DatasetError):
        assert_all(run, seen)
    assert {Path(one.config.data.folder) for one in history(run, again)} == {again}


@pytest.fixture
def two_datasets(tmp_path: Path, small: Small, seen: Seen, trained: Trained) -> tuple[Path, Path]:
    """A run that was resumed at step 4 with more images, and that dataset."""
    before, other = trained("train.epochs=1"), tmp_path / "other"
    run = before.copied(tmp_path / "run")
    seen.update(before.seen)
    sizes = ("--num-train", "360", "--num-val", "60", "--num-test", "60")
    words = ["shapes", "--out", str(other), *sizes, "--min-size", "40", "--max-size", "64"]
    assert CliRunner().invoke(prep, words).exit_code == 0
    forget_after(run, 4)
    given: dict[str, Any] = {"resume": True, "other_data": True, "quiet": True}
    fit(small("train.epochs=1"), other, run, device="cpu", **given)
    return run, other


def test_a_run_on_other_data(
    two_datasets: tuple[Path, Path], shapes: Path, tmp_path: Path, seen: Seen
) -> None:
    run, other = two_datasets
    assert [one.num_samples for one in history(run)] == [240, 360]
    assert list(seen) == list(range(1, 14))  # the epoch began again: 9 batches
    assert_all(run, seen)
    segments = history(run)
    for step, index in ((2, int(seen[2][0].indices[5])), (13, max(seen[13][0].indices.tolist()))):
        place, found = find_sample(segments, 0, str(index))
        assert found == index
        assert place.step == step or index in seen[place.step][0].indices
    names = read_names(other, read_manifest(other).split("train"))
    assert names is not None
    index = next(int(i) for i in seen[9][0].indices if int(i) >= 240)
    place, found = find_sample(segments, 0, names[index])
    assert (place.step, found) == (9, index)
    with pytest.raises(ConfigError, match="give 0 to 359"):
        find_sample(segments, 0, "360")
    moved = tmp_path / "moved"
    shutil.copytree(shapes, moved)
    own, later = (Path(one.config.data.folder) for one in history(run, moved))
    assert (own, later) == (moved, other)


@pytest.mark.slow
def test_the_first_of_two_segments_of_an_epoch_comes_first(
    shapes: Path, tmp_path: Path, small: Small, seen: Seen
) -> None:
    """Drawn samples occur several times in an epoch."""
    run = tmp_path / "run"
    fit(small("data.sampling=balanced", "train.epochs=1"), shapes, run, device="cpu", quiet=True)
    forget_after(run, 4)
    changed = ("data.sampling=balanced", "train.epochs=1", "train.batch_size=20")
    fit(small(*changed), shapes, run, device="cpu", quiet=True, resume=True)
    segments = history(run)
    first: dict[int, int] = {}
    for step, batches in sorted(seen.items()):
        for index in batches[0].indices.tolist():
            first.setdefault(index, step)
    twice = {i for i in first if first[i] <= 4} & set(seen[6][0].indices.tolist())
    assert twice
    for index in (*sorted(twice)[:3], *sorted(first)[:3]):
        assert find_sample(segments, 0, str(index))[0].step == first[index]


def test_steps_that_were_not_trained_are_refused(
    shapes: Path, tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted run, one that stopped early, and one that has recorded nothing."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_stops_early", lambda run: run.state.epoch == 1)
        fit(small(), shapes, run, device="cpu", quiet=True)
    place_of_step(history(run), 6)
    with pytest.raises(ConfigError, match="give a step from 1 to 6, the last one recorded"):
        place_of_step(history(run), 7)
    with pytest.raises(ConfigError, match="the last step that the run has recorded is 6"):
        find_sample(history(run), 1, "0")
    (run / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match="give a step from 1 to 6"):
        place_of_step(history(run), 7)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ConfigError, match="this run has recorded no step yet"):
        place_of_step(history(run), 1)


def test_an_older_run_that_is_resumed_with_other_settings(
    shapes: Path, tmp_path: Path, small: Small, seen: Seen, trained: Trained
) -> None:
    """Nothing is known of its steps before, so that they are refused."""
    run = trained().copied(tmp_path / "run")
    (run / STARTS).unlink()
    forget_after(run, 8)
    fit(small("augment.mixup=0.4"), shapes, run, device="cpu", quiet=True, resume=True)
    assert list(seen) == [9, 10, 11, 12]
    assert [one.step for one in read_starts(run)] == [8]
    assert_all(run, seen)
    with pytest.raises(ConfigError, match="give a step from 9 to 12"):
        place_of_step(history(run), 8)
    found = first_difference(run, run)
    assert (found.step, found.num_steps) == (None, 4)
    assert "4 steps are equal, from step 9 on" in found.text


def test_an_older_run_knows_its_images(
    shapes: Path, shapes_raw: Path, tmp_path: Path, trained: Trained
) -> None:
    """Its dataset.json names them, also where the number of images is the same."""
    run = trained("train.epochs=1").copied(tmp_path / "run")
    (run / STARTS).unlink()
    with pytest.raises(DatasetError, match="other training images"):
        history(run, shapes_raw)
    assert run_config(run).data.folder == str(shapes)


@pytest.mark.parametrize(
    "asked",
    [("--epoch", 10**30, "--sample", 3), ("--epoch", 1, "--sample", 10**30), ("--step", 10**30)],
    ids=["epoch", "sample", "step"],
)
def test_huge_numbers(asked: tuple[object, ...], trained: Trained) -> None:
    run = trained("train.epochs=1").run
    done = CliRunner().invoke(replay, [str(run), *map(str, asked)])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.output


def test_the_identity_of_images_has_the_label_table(shapes: Path) -> None:
    """Other labels of the same images are another dataset. The splits of a fold are both named."""
    manifest = read_manifest(shapes)
    own = manifest.split("train")
    assert images_in(manifest, ["train"]) == own.index_sha256
    assert images_in(manifest, ["train", "val"]).count(",") == 1
    changes: list[dict[str, str]] = [
        {"labels_sha256": "aa"}, {"labels_sha256": "bb"}, {"index_sha256": "", "sha256": "cc"},
    ]  # fmt: skip
    found = set()
    for change in changes:
        split = own.model_copy(update=change)
        splits = {**manifest.splits, "train": split}
        found.add(images_in(manifest.model_copy(update={"splits": splits}), ["train"]))
    assert found == {f"{own.index_sha256}+aa", f"{own.index_sha256}+bb", "cc"}


def test_a_loader_whose_images_cannot_be_compared_is_closed(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Loader] = []
    usual = module.open_loader  # type: ignore[attr-defined]

    def kept(*given: Any, **named: Any) -> Loader:
        opened.append(usual(*given, **named))
        return opened[-1]

    def fail(_: Loader) -> str:
        raise OSError("for the test")

    monkeypatch.setattr(module, "open_loader", kept)
    monkeypatch.setattr(module, "images_of", fail)
    segment, *_ = history(trained("train.epochs=1").run)
    with pytest.raises(OSError, match="for the test"):
        module.open_rank(segment, torch.device("cpu"), 0)
    with pytest.raises(SlipformError, match="is closed"):
        next(iter(opened[0]))
