"""`prep show` and `prep verify` of an untrusted dataset folder."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slipform.pipelines.beton import Beton
from slipform.pipelines.manifest import FILE_NAME
from slipform.preprocess.cli import main
from tests.pipelines import folders

IMAGES = [folders.jpeg(folders.smooth(30, 20 + k, seed=k)) for k in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(folders.write_folder(tmp_path / "set", IMAGES, [0, 1, 2]))


def _prep(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def test_labels_outside_the_classes(tmp_path: Path) -> None:
    """Counting up to that label would take 8 TiB."""
    folder = folders.write_folder(tmp_path / "set", IMAGES, [0, 2**40, 1])
    result = _prep("verify", folder)
    assert result.exit_code == 1
    assert "train.beton has 1 labels outside the 3 classes" in result.output
    result = _prep("show", folder, "--figure", tmp_path / "x.png")
    assert result.exit_code == 1
    assert f"has label {2**40}" in result.output


def test_no_text_is_markup_or_a_command_of_the_terminal(folder: Path) -> None:
    content = json.loads((folder / FILE_NAME).read_text())
    text = "[/red]\x1b[2J[bold]\n"
    content["splits"][text] = content["splits"]["train"] | {"modes": {text: 3}}
    content |= {"converted": {text: 1}, "split_rule": text, "dataset": text}
    (folder / FILE_NAME).write_text(json.dumps(content))
    result = _prep("show", folder)
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert result.output.count("[/red]") >= 4


def test_a_figure_is_complete_or_not_written(folder: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        result = _prep("show", folder, "--figure", tmp_path / "x.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.exit_code == 1
    assert "x.png" in result.output
    assert os.listdir(tmp_path) == ["set"]


def test_a_figure_of_a_damaged_sample(folder: Path, tmp_path: Path) -> None:
    beton = Beton(folder / "train.beton")
    with open(folder / "train.beton", "r+b") as file:
        file.seek(int(beton.offsets[0]))
        file.write(b"\0" * int(beton.sizes[0]))
    result = _prep("show", folder, "--figure", tmp_path / "x.png")
    assert result.exit_code == 1
    assert "sample 0 of" in result.output
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("command", ["show", "verify"])
def test_no_file_outside_the_folder_is_opened(command: str, folder: Path) -> None:
    content = json.loads((folder / FILE_NAME).read_text())
    content["splits"]["train"]["file"] = "../set/train.beton"
    (folder / FILE_NAME).write_text(json.dumps(content))
    result = _prep(command, folder)
    assert result.exit_code == 1
    assert "'../set/train.beton' of train is not a file in this folder" in result.output
