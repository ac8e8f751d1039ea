"""Teachers that a run cannot have, and answers that cannot be read or written: clear errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.manifest import read_manifest, write_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.run.loop import fit
from tests.train.run.labeled import dataset_of

pytestmark = pytest.mark.usefixtures("no_figures")


def _train(config: RunConfig, data: Path, out: Path, *, resume: bool = False) -> None:
    fit(config, data, out, device="cpu", quiet=True, resume=resume)


@pytest.mark.parametrize(
    ("sets", "match"),
    [
        (("distill.teacher=nowhere",), "nowhere"),
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
