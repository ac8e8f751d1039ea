"""The files with a teacher's answers: which students share them, and what a killed one leaves."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from slipform.models.weight_file import read_weights, write_weights
from slipform.pipelines import files
from slipform.pipelines.batch import Batch
from slipform.pipelines.errors import ConfigError, Interrupted
from slipform.pipelines.manifest import read_manifest, write_manifest
from slipform.train.cli import train
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.run import folder, teacher
from slipform.train.run.answers import Stored, add_answers, answers_path, read_answers
from slipform.train.run.folder import run_config
from slipform.train.run.loop import fit
from slipform.train.run.teacher_net import TeacherNet
from slipform.train.step.distill import Answers
from tests.train.run.interrupted import Killed, assert_same, at_step, kill

pytestmark = pytest.mark.usefixtures("no_figures")
Student = Callable[..., RunConfig]
SLOW_NAME = pytest.param("teacher", marks=pytest.mark.slow)


def _train(config: RunConfig, data: Path, out: Path, *, resume: bool = False) -> None:
    fit(config, data, out, device="cpu", quiet=True, resume=resume)


def _files(teacher: Path) -> list[Path]:
    return sorted((teacher / "answers").rglob("*.safetensors"))


def test_an_epoch_in_another_order_has_another_file(
    student: Student, shapes: Path, run: Path, tmp_path: Path
) -> None:
    """The last images of an epoch have no answer, and which they are depends on the order."""
    one = student("train.epochs=1", "train.batch_size=56")
    _train(one, shapes, tmp_path / "one")
    _train(one.replace("data.block", 8), shapes, tmp_path / "other")
    assert len(_files(run)) == 2


def test_the_training_images_of_a_fold_have_answers(
    student: Student, shapes: Path, run: Path, tmp_path: Path
) -> None:
    """Also of a dataset without images for validation."""
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    manifest = read_manifest(data)
    splits = {name: info for name, info in manifest.splits.items() if name != "val"}
    write_manifest(data, manifest.model_copy(update={"splits": splits}))
    _train(student("train.epochs=1", "data.fold=1/3"), data, tmp_path / "student")
    (path,) = _files(run)
    images = len(read_weights(path)[0]["values"])
    assert images == manifest.split("train").num_samples * 2 // 3


def test_what_a_killed_student_left_is_removed_by_the_next_one(
    student: Student, shapes: Path, run: Path, tmp_path: Path
) -> None:
    """And not by the teacher: another student may be writing while the teacher trains."""
    _train(student("train.epochs=1", "train.batch_size=56"), shapes, tmp_path / "first")
    (path,) = _files(run)
    orphan = path.with_name(f".{path.name}.0{files._SUFFIX}")
    orphan.write_bytes(b"")
    with ExitStack() as held:
        folder.check(run, held, resume=True, overwrite=False)
    assert orphan.exists()
    _train(student("train.epochs=1"), shapes, tmp_path / "second")  # it sees more of the images
    assert not orphan.exists()
    assert _files(run) == [path]


def test_a_teacher_that_changes_while_a_student_trains_does_not_answer(
    student: Student, shapes: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers would be stored as those of the weights before."""
    best = run / "best.safetensors"

    def change() -> None:
        weights, about = read_weights(best)
        write_weights(best, weights, {**about, "note": "other"})

    at_step(monkeypatch, 2, change)
    with pytest.raises(ConfigError, match=r"have changed since this run began"):
        _train(student(), shapes, tmp_path / "student")
    assert len(_files(run)) == 1


def test_a_run_that_continues_in_another_place_uses_the_same_folder(
    student: Student, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    config = student("train.epochs=1", "distill.answers=stored", "train.checkpoint_every_steps=2")
    at_step(monkeypatch, 3, kill)
    with pytest.raises(Killed):
        _train(config, shapes, tmp_path / "student")
    monkeypatch.chdir(tmp_path / "elsewhere")
    _train(run_config(tmp_path / "student"), shapes, tmp_path / "student", resume=True)
    assert len(list((tmp_path / "stored").rglob("*.safetensors"))) == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", [SLOW_NAME, 'a "b" \\ \U0001f600 \xe9'])
def test_the_option_teacher(
    student: Student, shapes: Path, run: Path, tmp_path: Path, name: str
) -> None:
    """A folder may have any name."""
    run.rename(tmp_path / name)
    recipe, out = tmp_path / "recipe.toml", tmp_path / "student"
    recipe.write_text(to_toml(student("train.epochs=1")), encoding="utf-8")
    arguments = [shapes, "--recipe", recipe, "--teacher", tmp_path / name, "--out", out]
    done = CliRunner().invoke(train, [*map(str, arguments), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert run_config(out).distill.teacher == str(tmp_path / name)
    assert len(_files(tmp_path / name)) == 1


@pytest.mark.parametrize(
    "mixed", [pytest.param((), marks=pytest.mark.slow), ("augment.mixup=0.4",)]
)
def test_a_student_that_is_stopped_while_the_teacher_answers(
    student: Student,
    shapes: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mixed: tuple[str],
) -> None:
    """The answers until then are stored, and the teacher goes on there."""
    config = student("train.epochs=1", *mixed)
    _train(config, shapes, tmp_path / "whole")
    (path,) = _files(run)
    answers, about = read_weights(path)
    path.unlink()
    seen: list[int] = []

    class Stopping(TeacherNet):
        def logits(self, batch: Batch) -> torch.Tensor:
            seen.extend(batch.indices.tolist())
            if len(seen) == 2 * 40:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().logits(batch)

    monkeypatch.setattr(teacher, "TeacherNet", Stopping)
    with pytest.raises(Interrupted):
        _train(config, shapes, tmp_path / "stopped")
    assert len(seen) == 2 * 40
    assert read_weights(path)[1]["end"] == str(2 * 40)
    _train(config, shapes, tmp_path / "stopped", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    assert len(seen) == len(set(seen)) == int(about["end"])
    again, about_again = read_weights(path)
    assert about_again == about
    for name, values in answers.items():
        assert again[name].nan_to_num().equal(values.nan_to_num())


def test_answers_depend_on_the_settings_of_the_teacher(
    student: Student, shapes: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train --resume` may change these settings of a teacher whose best weights stay."""
    fit(student("train.epochs=1"), shapes, tmp_path / "first", device="cpu")
    assert "epoch 1: the teacher answered in " in "".join(capsys.readouterr())
    settings = run / "config.toml"
    before = settings.read_text()
    for number, (old, new) in enumerate(
        (
            ('precision = "fp32"', 'precision = "bf16"'),
            ('normalize = "half"', 'normalize = "imagenet"'),
        )
    ):
        assert before.count(old) == 1
        settings.write_text(before.replace(old, new))
        _train(student("train.epochs=1"), shapes, tmp_path / str(number))
        assert len(_files(run)) == number + 2, new
    settings.write_text(before)
    _train(student("train.epochs=1"), shapes, tmp_path / "last")
    assert len(_files(run)) == 3


def test_the_answers_of_the_first_of_two_students_stay(tmp_path: Path) -> None:
    """Both have seen that there are none, and both write theirs."""
    path = answers_path(tmp_path, {}, 1)
    draws = torch.Generator().manual_seed(0)
    first, second = (
        Answers.empty(8, 4, 2, torch.device("cpu")),
        Answers.empty(8, 4, 2, torch.device("cpu")),
    )
    first.put(torch.arange(6), torch.randn(6, 4, generator=draws))
    second.put(torch.arange(8), torch.randn(8, 4, generator=draws))
    add_answers(path, {}, Stored(first, 0, 6))
    found = add_answers(path, {}, Stored(second, 0, 8))
    assert (found.first, found.end) == (0, 8)
    assert torch.equal(found.answers.values[:6], first.values[:6])
    assert torch.equal(found.answers.values[6:], second.values[6:])
    stored = read_answers(path, first)
    assert stored is not None
    assert torch.equal(stored.answers.values, found.answers.values)


def test_a_teacher_that_cannot_take_a_later_size_is_refused_before_the_run(
    student: Student, small: Callable[..., RunConfig], shapes: Path, tmp_path: Path
) -> None:
    fixed = tmp_path / "fixed"
    fit(small("model.name=mlp_sigmoid", "train.epochs=1"), shapes, fixed, device="cpu", quiet=True)
    sizes = small().augment.image_size
    config = student(
        f'distill.teacher="{fixed}"', f"train.image_sizes=[[1, {sizes}], [2, {2 * sizes}]]"
    )
    with pytest.raises(ConfigError, match=f"cannot take images of {2 * sizes} px"):
        _train(config, shapes, tmp_path / "student")
    assert not (tmp_path / "student").exists()
