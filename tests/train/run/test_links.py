"""An untrusted run folder in which a file is a link out of the folder: the link is neither read nor
written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.models.state_files import read_state
from slipform.pipelines.errors import SlipformError
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.run.folder import locked_if_run
from slipform.train.run.loop import fit

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of this user."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text("x")
    return tmp_path / "home"


def _link(path: Path, elsewhere: Path) -> None:
    """Replace a file or folder by a link to a copy of it, which would work."""
    target = elsewhere / path.name
    if path.exists():
        shutil.move(path, target)
    path.symlink_to(target)  # or to a path that does not exist yet


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


NAMES = ["config.toml", "dataset.json", "metrics.jsonl", "summary.json", "best.safetensors",
         "checkpoints", "figures", ".lock", "events.out.tfevents.1.x.2.0", "starts.jsonl",
         "epochs.csv", "records.json", "report.html", "wandb"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_file_of_a_run_is_read_or_written_elsewhere(
    name: str, run: Path, elsewhere: Path, shapes: Path, small: Small
) -> None:
    _link(run / name, elsewhere)
    before = _contents(elsewhere)
    config = small("train.epochs=2")
    for action in (
        lambda: fit(config, shapes, run, resume=True, device="cpu", quiet=True),
        lambda: fit(config, shapes, run, overwrite=True, device="cpu", quiet=True),
        lambda: Classifier.load(run, "cpu"),
    ):
        with pytest.raises(SlipformError, match=f"{name} is a link to .*, outside the folder"):
            action()
    assert _contents(elsewhere) == before


def test_links_in_the_folders_of_a_run(
    run: Path, elsewhere: Path, shapes: Path, small: Small
) -> None:
    [checkpoint] = (run / "checkpoints").iterdir()
    _link(checkpoint, elsewhere)
    with pytest.raises(SlipformError, match=r"\.pt is a link to .*, outside the folder"):
        fit(small("train.epochs=2"), shapes, run, resume=True, device="cpu", quiet=True)


def test_links_that_other_commands_would_write_to(run: Path, elsewhere: Path) -> None:
    classifier = Classifier.load(run, "cpu")
    before = _contents(elsewhere)
    _link(run / "model.safetensors", elsewhere)
    with pytest.raises(SlipformError, match=r"model\.safetensors is a link"):
        classifier.export("safetensors")
    (run / "validation").mkdir()
    (run / "validation" / "per_class.png").symlink_to(elsewhere / "precious")
    refused = pytest.raises(SlipformError, match=r"per_class\.png is a link")
    with refused, locked_if_run(run / "validation", "*.png"):
        pytest.fail("it would write there")
    assert _contents(elsewhere) == before


def test_weights_from_a_run(run: Path, elsewhere: Path) -> None:
    _link(run / "best.safetensors", elsewhere)
    with pytest.raises(SlipformError, match="outside the folder"):
        read_state(run)


def test_links_inside_the_folder_and_unrelated_links_are_allowed(
    run: Path, elsewhere: Path, shapes: Path, small: Small
) -> None:
    (run / "store").mkdir()
    _link(run / "best.safetensors", run / "store")
    (run / "my data").symlink_to(elsewhere)
    (run.parent / "named").symlink_to(run)
    Classifier.load(run.parent / "named", "cpu")
    fit(small("train.epochs=2"), shapes, run.parent / "named", resume=True, quiet=True)
    assert os.listdir(elsewhere) == ["precious"]
