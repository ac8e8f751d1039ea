"""A replayed batch is the one that the step trained on, bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from slipform.pipelines.errors import ConfigError, DatasetError, SlipformError
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.sample_names import read_names
from slipform.train.cli import replay
from slipform.train.config.recipe import read_config
from slipform.train.config.run_config import RunConfig
from slipform.train.replay.batches import replayed
from slipform.train.replay.history import history, place_of_step
from slipform.train.replay.sample import find_sample
from slipform.train.run.loop import fit
from slipform.train.run.starts import STARTS, read_starts
from tests.pipelines import own
from tests.train.replay.conftest import Finished, Seen, assert_all, assert_same, forget_after

Small = Callable[..., RunConfig]
Trained = Callable[..., Finished]
CPU = torch.device("cpu")
BEFORE = Path(__file__).parents[1] / "before"
MIXES = ("augment.mixup=0.4", "augment.cutmix=1.0", "augment.color_jitter.hue=0.1")
pytestmark = pytest.mark.usefixtures("no_figures")
slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "sets",
    [
        (),
        MIXES,
        ("train.accumulate=4", "data.block=16"),
        slow(("data.executor=resident", "train.seed=5", "train.epochs=1")),
        ("data.sampling=balanced",),
        slow(("data.fold=2/5", "train.epochs=1")),
        slow(("train.image_sizes=[[2, 32]]",)),
        slow(
            (
                *(f"augment.own.{own.exchange.__name__}=true", "augment.own.turn.degrees=15.0"),
                "train.epochs=1",
            )
        ),
    ],
    ids=["plain", "mixes", "accumulate", "resident", "balanced", "fold", "sizes", "own"],
)
def test_every_step_of_a_run(sets: tuple[str, ...], trained: Trained) -> None:
    done = trained(*sets)
    steps = 6 if "train.epochs=1" in sets else 4 if "train.accumulate=4" in sets else 12
    assert list(done.seen) == list(range(1, steps + 1))
    assert_all(done.run, done.seen)


@pytest.mark.parametrize("executor", [slow("resident"), "dali"])
def test_another_executor(
    executor: str, shapes: Path, tmp_path: Path, small: Small, seen: Seen
) -> None:
    """It makes the same samples, with the pixels of the run up to a few levels of 255."""
    config = small("augment.mixup=0.4", "train.epochs=1")
    fit(config, shapes, tmp_path / "run", device="cpu", quiet=True)
    place = place_of_step(history(tmp_path / "run"), 3)
    made, (expected,) = replayed(place, CPU, executor), seen[3]
    ((found,),) = made.batches
    assert (made.executor, made.exact) == (executor, False)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.labels, expected.labels)
    off = (found.images - expected.images).abs() * 127.5  # normalized by 0.5 and 0.5
    assert float(off.mean()) <= 1
    assert float((off <= 4).float().mean()) >= 0.99


def test_a_run_that_was_resumed_with_other_settings(
    shapes: Path, tmp_path: Path, small: Small, seen: Seen, trained: Trained
) -> None:
    """Batch size, augmentation and executor change in the middle of an epoch, and again later."""
    before = trained("train.epochs=1")
    run = before.copied(tmp_path / "run")
    seen.update(before.seen)
    forget_after(run, 4)
    changed = ("train.batch_size=24", "augment.mixup=0.4", "data.executor=resident")
    fit(small(*changed, "train.epochs=1"), shapes, run, device="cpu", quiet=True, resume=True)
    fit(small(*changed, "train.accumulate=2"), shapes, run, device="cpu", quiet=True, resume=True)
    assert [start.step for start in read_starts(run)] == [0, 4, 7]
    # 4 steps of 40, 3 of the remaining 80 by 24, then 10 batches of 24, two a step
    assert list(seen) == list(range(1, 13))
    assert_all(run, seen)


def test_a_resume_with_equal_settings_adds_no_start(
    shapes: Path, tmp_path: Path, small: Small, seen: Seen, trained: Trained
) -> None:
    run = trained().copied(tmp_path / "run")
    before = (run / STARTS).read_bytes()
    forget_after(run, 8)
    fit(small(), shapes, run, device="cpu", quiet=True, resume=True)
    assert (run / STARTS).read_bytes() == before
    assert list(seen) == [9, 10, 11, 12]
    assert_all(run, {**trained().seen, **seen})


def test_a_run_of_an_older_version(
    shapes: Path, tmp_path: Path, small: Small, seen: Seen, trained: Trained
) -> None:
    """It has no starts.jsonl, and gets none when it is resumed."""
    run = trained(*MIXES).copied(tmp_path / "run")
    (run / STARTS).unlink()
    assert_all(run, trained(*MIXES).seen)
    forget_after(run, 8)
    fit(small(*MIXES), shapes, run, device="cpu", quiet=True, resume=True)
    assert not (run / STARTS).exists()
    assert_all(run, seen)


@pytest.mark.parametrize("name", ["sgd", slow("muon")])
def test_a_run_that_version_0_1_wrote(name: str, tmp_path: Path, seen: Seen) -> None:
    """Its steps after the checkpoint are replayed from the files of that version alone, and equal
    what the run sees when it continues. tests/train/run/test_before.py compares their losses."""
    run = tmp_path / name
    shutil.copytree(BEFORE / name, run)
    (run / "summary.json").unlink()
    config = read_config(run / "config.toml")
    fit(config, BEFORE / "data", run, device="cpu", resume=True, quiet=True)
    assert not (run / STARTS).exists()
    segments = history(BEFORE / name, BEFORE / "data")
    assert len(seen) > 3
    for step, batches in seen.items():
        made = replayed(place_of_step(segments, step), CPU)
        assert made.exact
        ((*found,),) = made.batches
        for one, expected in zip(found, batches, strict=True):
            assert_same(one, expected)


@pytest.mark.parametrize("text", ["{", '{"step": 0}', "\xff"])
def test_a_damaged_record_of_starts_does_not_end_a_run(
    text: str, shapes: Path, tmp_path: Path, small: Small, seen: Seen, trained: Trained
) -> None:
    run = trained().copied(tmp_path / "run")
    forget_after(run, 8)
    (run / STARTS).write_text(text, encoding="latin-1")
    with pytest.raises(SlipformError, match=r"starts\.jsonl is damaged"):
        history(run)
    fit(small(), shapes, run, device="cpu", quiet=True, resume=True)
    assert list(seen) == [9, 10, 11, 12]
    assert_all(run, seen)
    segments = history(run)
    with pytest.raises(ConfigError, match="give a step from 9 to 12"):
        place_of_step(segments, 8)


def test_the_step_that_saw_a_sample(trained: Trained) -> None:
    done = trained("train.accumulate=2")
    segments = history(done.run)
    for step, batches in done.seen.items():
        for index in (int(batches[-1].indices[7]), int(batches[0].indices[0])):
            place, found = find_sample(segments, (step - 1) // 3, str(index))
            assert (place.step, found) == (step, index)
    with pytest.raises(ConfigError, match="the run has 2 epochs"):
        find_sample(segments, 2, "0")
    with pytest.raises(ConfigError, match="give 0 to 239"):
        find_sample(segments, 0, "240")
    for step in (0, 7):
        with pytest.raises(ConfigError, match="give a step from 1 to 6"):
            place_of_step(segments, step)


def _replay(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(replay, [*map(str, arguments), "--device", "cpu"])
    return done.exit_code, done.output


def test_the_command_draws_and_writes_tensors(
    shapes: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # `save` draws
    manifest = read_manifest(shapes)
    names = read_names(shapes, manifest.split("train"))
    run, seen = trained(*MIXES).run, trained(*MIXES).seen
    assert names is not None
    index = int(seen[9][0].indices[3])
    out = tmp_path / "out"
    before = sorted(path.name for path in run.rglob("*"))
    for asked in (("--step", 9), ("--epoch", 2, "--sample", names[index])):
        code, printed = _replay(run, *asked, "--tensors", "--out", out, "--images", 10)
        assert code == 0, printed
        assert "step 9, epoch 2: 40 images" in printed
        assert "the checkpoint after step 8" in printed
        assert "as in the run, by executor host" in printed
        assert (out / "replay-step-00000009.png").stat().st_size > 10_000
        found = load_file(out / "replay-step-00000009.safetensors")
        assert torch.equal(found["images"], seen[9][0].images)
        assert torch.equal(found["mix_weight"], seen[9][0].mix.weight)
    assert sorted(path.name for path in run.rglob("*")) == before


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((), "give one of --step N"),
        (("--step", 1, "--to-divergence"), "give one of --step N"),
        (("--epoch", 1), "--epoch E with --sample I"),
        (("--step", 99), "give a step from 1 to 12"),
        (("--epoch", 1, "--sample", "nothing.png"), "no training sample is called nothing.png"),
        (("--epoch", 1, "--sample", "-1"), "Give its index, 0 to 239"),
        (("--epoch", 0, "--sample", 1), "epoch 0: the run has 2 epochs, give 1 to 2"),
        (("--step", 1, "--data", "nowhere"), "nowhere is not a folder: give the folder with the"),
        (("--step", 1, "--data", "."), ". holds no dataset.json"),
        (("--to-divergence",), "did not diverge"),
        (("--diff", "other", "--tensors"), "--diff takes no --executor, --tensors and --out"),
    ],
)
def test_what_cannot_be_replayed(trained: Trained, asked: tuple[object, ...], message: str) -> None:
    code, printed = _replay(trained().run, *asked)
    assert code == 1
    assert message in printed


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("[train]", "[train]\\nshiny = 1", 'unknown setting "train.shiny"'),
        ('"world_size"', '"nodes": 2, "world_size"', r"starts\.jsonl has nodes"),
    ],
)
def test_a_run_of_a_newer_version(
    trained: Trained, tmp_path: Path, before: str, after: str, says: str
) -> None:
    """It has settings, or an entry of its starts, that this version does not know."""
    run = trained().copied(tmp_path / "run")
    text = (run / STARTS).read_text()
    assert before in text
    (run / STARTS).write_text(text.replace(before, after))
    with pytest.raises(SlipformError, match=rf"{says}.*newer version.*use that version"):
        history(run)


def test_other_images_are_refused(
    shapes: Path, shapes_raw: Path, tmp_path: Path, small: Small
) -> None:
    data, run = shutil.copytree(shapes, tmp_path / "data"), tmp_path / "run"
    fit(small("train.epochs=1"), data, run, device="cpu", quiet=True)
    shutil.rmtree(data)
    shutil.copytree(shapes_raw, data)
    place = place_of_step(history(run), 1)
    with pytest.raises(DatasetError, match="--data"):
        replayed(place, CPU)
