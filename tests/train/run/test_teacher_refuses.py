"""Teachers that a run cannot have, and answers that cannot be read or written: clear errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.manifest import read_manifest, write_manifest
from slipform.train.config.recipe import load_recipe
from slipform.train.config.run_config import RunConfig
from slipform.train.run.loop import fit
from slipform.train.sweep.sweep import run_sweep
from tests.train.run.labeled import dataset_of

pytestmark = pytest.mark.usefixtures("no_figures")


def _train(config: RunConfig, data: Path, out: Path, *, resume: bool = False) -> None:
    fit(config, data, out, device="cpu", quiet=True, resume=resume)


@pytest.mark.parametrize(
    ("sets", "match"),
    [
        (("distill.teacher=nowhere",), r"distill\.teacher = .*nowhere is no run folder: give a"),
        (("data.sampling=balanced",), "data.sampling"),
        (("distill.share=1.5",), "distill.share"),
        (("distill.top=0",), "distill.top"),
        (("distill.temperature=0.0",), "distill.temperature"),
        (("augment.image_size=4",), "cannot take images of 4 px"),
    ],
)
def test_what_cannot_be_is_said(
    student: Callable[..., RunConfig], shapes: Path, tmp_path: Path, sets: tuple[str], match: str
) -> None:
    with pytest.raises(SlipformError, match=match):
        _train(student(*sets), shapes, tmp_path / "student")


def test_a_teacher_of_other_classes_is_refused(
    student: Callable[..., RunConfig], shapes: Path, run: Path, tmp_path: Path
) -> None:
    own = read_manifest(run)
    write_manifest(run, own.model_copy(update={"classes": ["sphere", *own.classes[1:]]}))
    with pytest.raises(ConfigError, match=f"'{own.classes[0]}'"):
        _train(student(), shapes, tmp_path / "student")
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("way", ["plain", "relative", "a link", "a link as --out"])
def test_a_run_is_not_its_own_teacher(
    way: str, resume: bool, small: Callable[..., RunConfig], shapes: Path, run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Nothing is removed, also with overwrite."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    link = run.parent / "link"
    link.symlink_to(run)
    monkeypatch.chdir(run.parent)
    teacher = {"relative": run.name, "a link": str(link)}.get(way, str(run))
    out = link if way == "a link as --out" else run
    config = small("train.epochs=1", f'distill.teacher="{teacher}"')
    with pytest.raises(ConfigError, match=r"is the folder of this run.*give another --out"):
        fit(config, shapes, out, device="cpu", quiet=True, overwrite=not resume, resume=resume)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_sweep_removes_nothing_of_a_teacher_in_its_folder(
    shapes: Path, run: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "one.toml"
    recipe.write_text('description = "one"\n[[runs]]\nname = "one"\n')
    own = tmp_path / "sweep" / "one" / "seed-0"
    own.parent.mkdir(parents=True)
    run.rename(own)
    before = sorted(path.name for path in own.iterdir())
    sets = [f'distill.teacher="{own}"', "train.epochs=1"]
    with pytest.raises(ConfigError, match="is the folder of this run"):
        run_sweep(load_recipe(recipe), shapes, tmp_path / "sweep", sets, overwrite=True, quiet=True)
    assert sorted(path.name for path in own.iterdir()) == before


def test_several_labels_are_refused(
    small: Callable[..., RunConfig], run: Path, tmp_path: Path
) -> None:
    data = dataset_of(tmp_path / "data", "multi")
    with pytest.raises(ConfigError, match="several"):
        _train(small("loss.name=bce", f'distill.teacher="{run}"'), data, tmp_path / "student")


def test_a_damaged_file_is_named(
    student: Callable[..., RunConfig], shapes: Path, run: Path, tmp_path: Path
) -> None:
    _train(student("train.epochs=1"), shapes, tmp_path / "first")
    (path,) = (run / "answers").rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(SlipformError, match=r"damaged.*remove it"):
        _train(student("train.epochs=1"), shapes, tmp_path / "second")
    path.unlink()
    _train(student("train.epochs=1"), shapes, tmp_path / "second", resume=True)


def test_answers_that_cannot_be_written_are_said(
    student: Callable[..., RunConfig], shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SlipformError, match=r"cannot be written.*distill\.answers"):
        _train(student(f'distill.answers="{tmp_path / "file"}"'), shapes, tmp_path / "student")
