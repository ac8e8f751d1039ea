"""Lost settings of a run are restored from its checkpoint. A dataset is not a run folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slipform.pipelines.errors import ConfigError
from slipform.train.commands.train import train
from slipform.train.config.run_config import RunConfig
from slipform.train.records import METRICS
from slipform.train.run.folder import run_config
from slipform.train.run.loop import fit
from tests.train.drawing import without_figures

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def finished(shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("settings") / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small("train.epochs=1", "augment.flip=vertical"), shapes, run, device="cpu", quiet=True)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def _resume(*arguments: object) -> Result:
    return CliRunner().invoke(train, ["--quiet", "--device", "cpu", *map(str, arguments)])


@pytest.mark.parametrize(
    ("content", "names_data"),
    [
        (b"", False),
        (b"[train]\nepochs = 1\n", True),
        pytest.param(b"\xff\xfe", False, marks=pytest.mark.slow),
        pytest.param(b"[train", True, marks=pytest.mark.slow),
    ],
)
def test_damaged_settings_are_restored_from_the_checkpoint(
    content: bytes, names_data: bool, run: Path, shapes: Path
) -> None:
    before = run_config(run)
    (run / "config.toml").write_bytes(content)
    result = _resume(*[shapes] * names_data, "--resume", run, "--set", "train.epochs=2")
    assert result.exit_code == 0, result.output
    assert "config.toml" in result.stderr
    assert "the settings of the newest checkpoint" in result.stderr
    assert run_config(run) == before.replace("train.epochs", 2)


def test_without_a_checkpoint_they_are_an_error(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "config.toml").write_bytes(b"")
    result = _resume("--resume", run)
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    assert (run / "config.toml").read_bytes() == b""


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_dataset_is_no_run_folder(
    overwrite: bool, shapes: Path, small: Small, tmp_path: Path
) -> None:
    """A run would replace its dataset.json."""
    shutil.copytree(shapes, tmp_path / "data")
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    with pytest.raises(ConfigError, match="contains a dataset"):
        fit(small(), shapes, tmp_path / "data", overwrite=overwrite, device="cpu", quiet=True)
    after = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    assert {name: after[name] for name in before} == before
    assert "config.toml" not in after


def test_a_link_to_a_folder_that_is_not_there_yet(
    shapes: Path, small: Small, tmp_path: Path
) -> None:
    (tmp_path / "run").symlink_to("disk/run")
    fit(small("train.epochs=1"), shapes, tmp_path / "run", device="cpu", quiet=True)
    assert (tmp_path / "disk/run" / METRICS).is_file()
