"""Several processes, with gloo: the same run as one process with the whole batch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slipform.train.config.resolve import resolve
from slipform.train.records import read_metrics
from slipform.train.run.loop import fit
from tests.processes import finish, forked, torchrun, wait_for
from tests.warm import Warm

# Every process imports torch: 5 s of processor time each.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("no_figures")]

RUNS = "tests.train.machine.runs"
# A net with BatchNorm, whose statistics are those of the batches of all processes.
SETS = [
    "model.name=tiny",
    "augment.image_size=32",
    "augment.resize=36",
    "augment.crop=random",
    "train.precision=fp32",
    "data.threads=1",
    "data.executor=host",
    "optimizer.lr=0.02",
    "loss.label_smoothing=0.0",
]


def _torchrun(num: int, *arguments: object) -> subprocess.Popen[str]:
    sets = [word for text in SETS for word in ("--set", text)]
    return torchrun(num, "-m", "slipform.train.cli", *sets, *arguments)


def _compare(a: Path, b: Path) -> None:
    """The losses are equal up to rounding, and the number of validation images is exact."""
    one = [x["loss"] for x in read_metrics(a, "step")]
    many = [x["loss"] for x in read_metrics(b, "step")]
    assert many == pytest.approx(one, abs=2e-4)
    for x, y in zip(read_metrics(a, "epoch"), read_metrics(b, "epoch"), strict=True):
        assert y["train_loss"] == pytest.approx(x["train_loss"], abs=2e-4)
        assert y["val_loss"] == pytest.approx(x["val_loss"], abs=1e-3)
        assert round(y["val_accuracy"] * 60, 6) == round(
            y["val_accuracy"] * 60
        )  # 60 images, none counted twice


def _alone(shapes: Path, out: Path, *sets: str) -> dict[str, Any]:
    return fit(resolve(None, [*SETS, *sets]), shapes, out, quiet=True)


def test_two_processes_equal_one_with_the_whole_batch(
    shapes: Path, tmp_path: Path, trainer: Warm
) -> None:
    # The loaders of both open again, when the size of the images changes.
    sets = ("train.epochs=2", "train.image_sizes=[[2, 24]]", "data.executor=resident")
    words = [word for text in (*SETS, *sets, "train.batch_size=20") for word in ("--set", text)]
    run = [*words, shapes, "--recipe", _recipe(tmp_path), "--out", tmp_path / "two"]
    finished = forked(trainer, 2, RUNS, json.dumps([[str(word) for word in run]]))
    alone = _alone(shapes, tmp_path / "one", *sets, "train.batch_size=40")
    said = [one.stdout for one in finished()]
    assert [out.count("test accuracy") for out in said] == [1, 0]  # only one process prints
    _all_map_one_copy(said)
    _compare(tmp_path / "one", tmp_path / "two")
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert summary["processes"] == 2
    assert summary["resident_bytes"] == alone["resident_bytes"] > 0


def _all_map_one_copy(said: list[str]) -> None:
    """Each process maps the same memory for the decoded images; see `runs`."""
    mapped = [[line for line in out.splitlines() if line.startswith("pixels")] for out in said]
    assert len(mapped[0]) >= 2, "the images of train and val"
    assert all(len(line.split()) > 1 for line in mapped[0]), "they are in shared memory"
    assert all(lines == mapped[0] for lines in mapped[1:])


@pytest.mark.slow
def test_four_processes_train_with_one_copy_of_the_pixels(
    shapes: Path, tmp_path: Path, trainer: Warm
) -> None:
    sets = ("train.epochs=1", "data.executor=resident", "train.batch_size=10")
    words = [word for text in (*SETS, *sets) for word in ("--set", text)]
    run = [*words, shapes, "--recipe", _recipe(tmp_path), "--out", tmp_path / "four"]
    ended = forked(trainer, 4, RUNS, json.dumps([[str(word) for word in run]]))()
    said = [one.stdout for one in ended]
    _all_map_one_copy(said)
    summary = json.loads((tmp_path / "four" / "summary.json").read_text())
    assert summary["processes"] == 4
    assert summary["resident_bytes"] > 0


def _recipe(folder: Path) -> Path:
    """A recipe without settings: the defaults, as in `_alone`."""
    (folder / "plain.toml").write_text('description = "plain"\n')
    return folder / "plain.toml"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm/test_vit", "timm/test_resnet"])
def test_nets_of_timm_with_rates_for_each_layer(name: str, shapes: Path, tmp_path: Path) -> None:
    sets = [f"model.name={name}", "optimizer.layer_decay=0.7", "train.epochs=1"]
    arguments = [word for text in [*sets, "train.batch_size=20"] for word in ("--set", text)]
    recipe = ("--recipe", _recipe(tmp_path))
    finish(_torchrun(2, shapes, "--out", tmp_path / "two", *arguments, *recipe))
    _alone(shapes, tmp_path / "one", *sets, "train.batch_size=40")
    _compare(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_four_processes_and_resuming_with_another_number(shapes: Path, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path)
    _alone(shapes, tmp_path / "one", "train.epochs=2", "train.batch_size=40")
    finish(
        _torchrun(
            4,
            shapes,
            "--out",
            tmp_path / "four",
            "--recipe",
            recipe,
            "--set",
            "train.epochs=2",
            "--set",
            "train.batch_size=10",
        )
    )
    _compare(tmp_path / "one", tmp_path / "four")
    finish(
        _torchrun(
            4,
            shapes,
            "--out",
            tmp_path / "mixed",
            "--recipe",
            recipe,
            "--set",
            "train.epochs=1",
            "--set",
            "train.batch_size=10",
        )
    )
    _, errors = finish(
        _torchrun(
            2,
            "--resume",
            tmp_path / "mixed",
            "--set",
            "train.epochs=2",
            "--set",
            "train.batch_size=20",
        )
    )
    assert "changed: 2 processes, 4 before" in errors
    _compare(tmp_path / "one", tmp_path / "mixed")


@pytest.fixture(scope="module")
def halfway(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes, with the checkpoint after 3 of 6 steps of 40 images."""
    folder = tmp_path_factory.mktemp("halfway")
    sets = ("train.epochs=1", "train.batch_size=20", "train.checkpoint_every_steps=3")
    options = [word for text in sets for word in ("--set", text)]
    run = folder / "run"
    finish(_torchrun(2, shapes, "--out", run, "--recipe", _recipe(folder), *options))
    (run / "summary.json").unlink()
    for path in (run / "checkpoints").iterdir():
        if not path.name.startswith("step-00000003-"):
            path.unlink()
    return run


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 3])
def test_an_epoch_of_two_numbers_of_processes_is_weighted_by_images(
    num: int, halfway: Path, shapes: Path, tmp_path: Path
) -> None:
    """3 steps of 40 images in two processes, then 2 steps of 60 images in one or three."""
    run = tmp_path / "run"
    shutil.copytree(halfway, run)
    size = ("--set", f"train.batch_size={60 // num}")
    _, errors = finish(_torchrun(num, "--resume", run, "--set", "train.epochs=1", *size))
    assert f"changed: {num} processes, 2 before; a batch now has 60 images" in errors
    losses = [x["loss"] for x in read_metrics(run, "step")]
    images = [40, 40, 40, 60, 60]
    weighted = sum(loss * n for loss, n in zip(losses, images, strict=True)) / 240
    (epoch,) = read_metrics(run, "epoch")
    assert epoch["train_loss"] == pytest.approx(weighted, rel=1e-6)
    right = epoch["train_accuracy"] * 240
    assert right == pytest.approx(round(right), abs=1e-6)
    # Like a single process.
    alone = tmp_path / "alone"
    shutil.copytree(halfway, alone)
    config = resolve(None, [*SETS, "train.epochs=1", "train.batch_size=60"])
    fit(config, shapes, alone, device="cpu", resume=True, quiet=True)
    _compare(alone, run)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["killed", "terminated"])
def test_a_process_that_dies_ends_the_run_with_a_message(
    what: str, shapes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = _torchrun(
        2,
        shapes,
        "--out",
        run,
        "--recipe",
        _recipe(tmp_path),
        "--set",
        "train.epochs=900",
        "--set",
        "train.batch_size=20",
        "--set",
        "train.log_every_steps=1000",
    )
    wait_for(process, lambda: any((run / "checkpoints").glob("*.pt")))
    if what == "killed":
        os.kill(_children(process.pid)[-1], signal.SIGKILL)
    else:
        process.terminate()
    _, errors = process.communicate()
    assert process.returncode != 0
    assert ("lost the others" if what == "killed" else "Continue with: train --resume") in errors
    finish(_torchrun(1, "--resume", run, "--set", "train.epochs=1", "--set", "train.batch_size=40"))
