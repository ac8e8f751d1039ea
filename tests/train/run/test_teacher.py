"""A teacher's answers: of the student's images, stored once, the same whoever made them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.models.weight_file import read_weights, write_weights
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest, write_manifest
from slipform.train.config.image_sizes import training_augment
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.inference.classifier import Classifier
from slipform.train.records import read_metrics
from slipform.train.run import teacher
from slipform.train.run.folder import resumed_recipe
from slipform.train.run.loop import fit
from slipform.train.run.unchanged import check_unchanged
from slipform.train.step.distill import shortened
from tests.processes import finish, torchrun
from tests.train.run.interrupted import Killed, assert_same, at_step, kill

pytestmark = pytest.mark.usefixtures("no_figures")


def _train(config: RunConfig, data: Path, out: Path, **options: Any) -> Path:
    """Train, and return the run folder."""
    fit(config, data, out, device="cpu", quiet=True, **options)
    return out


def _losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run, "step")]


def _reorder(teacher: Path) -> None:
    """Give the outputs of a teacher the names of its classes in the reverse order."""
    own = read_manifest(teacher)
    reverse = own.classes[::-1]
    write_manifest(teacher, own.model_copy(update={"classes": reverse}))
    weights, about = read_weights(teacher / "best.safetensors")
    write_weights(teacher / "best.safetensors", weights, {**about, "classes": json.dumps(reverse)})


def _sharpen(teacher: Path) -> None:
    """Multiply the weights of the last layer: after one epoch, all images have similar answers."""
    weights, about = read_weights(teacher / "best.safetensors")
    last = [name for name in weights if name.endswith("weight")][-1]
    weights[last] *= 50
    write_weights(teacher / "best.safetensors", weights, about)


def _files(teacher: Path) -> list[Path]:
    return sorted((teacher / "answers").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("reverse", "mixed"),
    [
        pytest.param(False, (), marks=pytest.mark.slow),
        (True, ()),
        (False, ("augment.mixup=0.4",)),
    ],
)
def test_the_answers_are_those_of_the_teacher_to_the_students_images(
    student: Callable[..., RunConfig],
    shapes: Path,
    run: Path,
    tmp_path: Path,
    reverse: bool,
    mixed: tuple[str],
) -> None:
    """Also with another normalization than the teacher's, and another order of the classes.

    The teacher's run was evaluated on several views of an image. Its answers are for one.
    """
    settings = (run / "config.toml").read_text()
    views = settings.replace("flip_test = false", "flip_test = true")
    views = views.replace("shift_test = 0", "shift_test = 1")
    assert views.count("flip_test = true") == views.count("shift_test = 1") == 1
    (run / "config.toml").write_text(views)
    _sharpen(run)
    if reverse:
        _reorder(run)
    config = student("augment.normalize=imagenet", "distill.top=3", *mixed)
    _train(config, shapes, tmp_path / "student")
    known = Classifier.load(run, "cpu")
    augment = replace(training_augment(config, 1), normalize=known.spec.normalize)
    files, checked = _files(run), 0
    assert [path.name for path in files] == ["epoch-00001.safetensors", "epoch-00002.safetensors"]
    with Loader(shapes, "train", augment, batch_size=40, executor="host", threads=1) as loader:
        for path in files:
            tensors, about = read_weights(path)
            assert (about["first"], about["end"]) == ("0", str(40 * len(loader)))
            for batch in loader:
                with torch.inference_mode():
                    logits = known.model(batch.images)
                values, classes = shortened(logits.flip(1) if reverse else logits, 3)
                # The normalization is changed by one product and one sum in float32, and float16
                # rounds to 1 / 2048.
                torch.testing.assert_close(
                    tensors["values"][batch.indices], values, rtol=2e-3, atol=2e-3
                )
                agree = tensors["classes"][batch.indices].long() == classes
                assert agree.float().mean() > 0.95  # probabilities may be equal
                checked += len(batch)
            spread = tensors["values"].nan_to_num().float().std(0).max()
            assert spread > 0.1, "all images have similar answers"
            seen = torch.ones(len(tensors["values"]), dtype=torch.bool)
            seen[loader.sequence.order.samples(loader.epoch - 1)[: 40 * len(loader)]] = False
            assert bool(tensors["values"][seen].isnan().all())
    assert checked == 2 * 40 * len(loader)


def test_a_student_that_reads_equals_the_one_that_made_the_answers(
    student: Callable[..., RunConfig],
    shapes: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = student("distill.share=0.9")
    made = _train(config, shapes, tmp_path / "made")
    with monkeypatch.context() as patched:
        patched.setattr(teacher, "TeacherNet", lambda *_: pytest.fail("it answered again"))
        assert_same(made, _train(config, shapes, tmp_path / "read"))
    plain = _train(config.replace("distill.teacher", ""), shapes, tmp_path / "plain")
    assert _losses(made) != _losses(plain)
    assert_same(plain, _train(student("distill.share=0.0"), shapes, tmp_path / "none"))


@pytest.mark.parametrize(
    "mixed", [pytest.param((), marks=pytest.mark.slow), ("augment.mixup=0.4",)]
)
def test_a_killed_student_resumes_exactly(
    student: Callable[..., RunConfig],
    shapes: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mixed: tuple[str],
) -> None:
    """With the stored answers, and without: the teacher then answers for the rest of the epoch."""
    killed, again = tmp_path / "killed", tmp_path / "again"
    config = student("train.checkpoint_every_steps=2", *mixed)
    whole = _train(config, shapes, tmp_path / "whole")
    shutil.rmtree(run / "answers")
    at_step(monkeypatch, 3, kill)
    with pytest.raises(Killed):
        _train(config, shapes, killed)
    assert len(_files(run)) == 1
    shutil.copytree(killed, again)
    assert_same(whole, _train(config, shapes, killed, resume=True))
    shutil.rmtree(run / "answers")
    assert_same(whole, _train(config, shapes, again, resume=True))


def test_answers_are_used_for_other_batch_sizes_but_not_for_other_images(
    student: Callable[..., RunConfig], shapes: Path, run: Path, tmp_path: Path
) -> None:
    _train(student("train.epochs=1", "train.batch_size=56"), shapes, tmp_path / "first")
    (path,) = _files(run)
    before, about = read_weights(path)
    before["values"] -= 1  # the answers that are stored stay, whatever the teacher would say now
    write_weights(path, before, about)
    # Batches of 40 cover more of the epoch than batches of 56: the file gets more answers.
    _train(student("train.epochs=1"), shapes, tmp_path / "second")
    assert _files(run) == [path]
    after, about = read_weights(path)
    kept = ~before["values"].isnan().any(1)
    assert int(about["end"]) == int((~after["values"].isnan().any(1)).sum()) > int(kept.sum())
    assert torch.equal(before["values"][kept], after["values"][kept])
    for number, changed in enumerate(("train.seed=1", "augment.flip=none", "augment.mixup=0.4")):
        _train(student("train.epochs=1", changed), shapes, tmp_path / changed)
        assert len(_files(run)) == number + 2, changed
    _train(
        student("train.epochs=1", "augment.mixup=0.4", "train.batch_size=32"),
        shapes,
        tmp_path / "mixed",
    )
    assert len(_files(run)) == 5


@pytest.mark.slow
def test_mixed_images_of_other_batches_have_other_answers(
    student: Callable[..., RunConfig],
    shapes: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that continues with another batch size divides the rest of its epoch in another way
    than a run that began with it."""
    config = student("train.epochs=1", "augment.mixup=0.4", "train.checkpoint_every_steps=2")
    at_step(monkeypatch, 3, kill)
    with pytest.raises(Killed):
        _train(config, shapes, tmp_path / "student")
    other = config.replace("train.batch_size", 32)
    _train(other, shapes, tmp_path / "other")
    assert len(_files(run)) == 2
    _train(other, shapes, tmp_path / "student", resume=True)
    found = [read_weights(path)[1]["first"] for path in _files(run)]
    assert sorted(found) == ["0", "0", "80"]


def test_other_weights_of_the_teacher_are_refused_when_a_run_continues(
    student: Callable[..., RunConfig], shapes: Path, run: Path, tmp_path: Path
) -> None:
    config, out = student("train.epochs=1"), tmp_path / "student"
    _train(config, shapes, out)
    weights, about = read_weights(run / "best.safetensors")
    first = next(name for name in weights if weights[name].is_floating_point())
    write_weights(run / "best.safetensors", {**weights, first: weights[first] + 1}, about)
    again = resolve(resumed_recipe(out, pytest.fail), ("train.epochs=2",))
    with pytest.raises(ConfigError, match=r"have changed since this run began.*distill\.sha256"):
        fit(again, shapes, out, device="cpu", quiet=True, resume=True)
    accepted = again.replace("distill.sha256", "")
    fit(accepted, shapes, out, device="cpu", quiet=True, resume=True)
    assert len(_files(run)) == 2


@pytest.mark.slow
def test_two_processes_equal_one(
    student: Callable[..., RunConfig], shapes: Path, run: Path, tmp_path: Path
) -> None:
    """Each makes the answers for its part of every batch."""
    config = student("train.epochs=1", "model.name=tiny", "model.head=linear")
    one = _train(config, shapes, tmp_path / "one")
    (path,) = _files(run)
    alone, about = read_weights(path)
    shutil.rmtree(run / "answers")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(config.replace("train.batch_size", 20)), encoding="utf-8")
    words = [shapes, "--recipe", recipe, "--out", tmp_path / "two"]
    finish(torchrun(2, "-m", "slipform.train.cli", *words))
    assert _files(run) == [path]
    together, again = read_weights(path)
    assert (again["first"], again["end"]) == (about["first"], about["end"])
    torch.testing.assert_close(together["values"], alone["values"], rtol=2e-3, atol=2e-3)
    assert _losses(tmp_path / "two") == pytest.approx(_losses(one), abs=2e-4)


def test_a_finished_student_is_the_one_that_is_asked_for_until_its_teacher_changes(
    student: Callable[..., RunConfig], shapes: Path, run: Path, tmp_path: Path
) -> None:
    """As sweeps and `bench ab` ask, with settings that have no SHA-256."""
    config, out = student("train.epochs=1"), tmp_path / "student"
    _train(config, shapes, out)

    def check(asked: RunConfig) -> None:
        asked = asked.replace("data.folder", str(shapes))
        check_unchanged(out, asked, read_manifest(shapes), "again", lambda _: False)

    check(config)
    with pytest.raises(ConfigError, match=r"distill\.share = 0\.5, not 0\.6"):
        check(config.replace("distill.share", 0.6))
    weights, about = read_weights(run / "best.safetensors")
    write_weights(run / "best.safetensors", weights, {**about, "note": "other"})
    with pytest.raises(ConfigError, match=r"distill\.sha256"):
        check(config)
