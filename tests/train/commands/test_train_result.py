"""The end of `train`: an accuracy, and next commands that work, whatever splits there are."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import slipform as sf
from slipform.cli import main
from slipform.train.commands.train_result import next_lines, result_lines
from tests.command_lines import next_commands

SETS = (
    "model.name=tiny", "augment.image_size=16", "augment.resize=16", "train.precision=fp32",
    "train.epochs=1", "train.batch_size=16", "data.threads=1", "data.executor=host",
)  # fmt: skip


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("numbers", "split"),
    [
        pytest.param((12, 12), "test", id="val and test"),
        pytest.param((12, 0), "val", id="val alone", marks=pytest.mark.slow),
        pytest.param((0, 12), "test", id="test alone", marks=pytest.mark.slow),
        pytest.param((0, 0), None, id="neither"),
    ],
)
@pytest.mark.usefixtures("no_figures", "empty_svgs")
def test_the_printed_commands_work(
    numbers: tuple[int, int], split: str | None, tmp_path: Path
) -> None:
    """`next_commands` has read them. Export does not depend on the splits: it runs without any."""
    data, run = tmp_path / "data", tmp_path / "a run"
    val, test = numbers
    sf.prepare(
        "shapes", out=data, num_train=36, num_val=val, num_test=test, min_size=16, max_size=16
    )
    sets = [word for one in SETS for word in ("--set", one)]
    output = _run("train", data, "--out", run, "--device", "cpu", *sets)
    found = [line for line in output.splitlines() if " accuracy " in line]
    assert [line.split(" accuracy ")[0] for line in found] == ([split] if split else [])
    assert [" (95 % interval " in line for line in found] == ([split == "test"] if split else [])
    image = tmp_path / "a.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(image)
    commands = next_commands(output)
    names = [line.split()[1] for line in commands]
    assert names == [*(["validate"] if split else []), "predict", "export"]
    for line in commands:
        words = [str(image) if word == "IMAGE..." else word for word in shlex.split(line)[1:]]
        if words[0] == "export" and split:
            continue
        said = _run(*words)
        if words[0] == "validate":
            (shown,) = re.findall(rf"{split}: top-1 (\d\.\d{{4}})", said)
            # Training and validation may round differently: one prediction of 12 may change.
            assert float(shown) == pytest.approx(float(found[0].split()[2]), abs=1.01 / 12)
            assert (run / "report.html").is_file()
            assert f"{split}: top-1" in _run("validate", run)


def test_the_last_lines_can_be_printed_for_any_folder() -> None:
    """Linux allows names that are no UTF-8. An error at the end would look like a failed run."""
    summary = {
        "test_accuracy": 0.5, "test_accuracy_interval": None, "val_accuracy": None, "best_epoch": 1,
        "data_wait_share": 0.0, "images_per_second": 10.0, "train_seconds": 1.0,
    }  # fmt: skip
    run = Path(os.fsdecode(b"runs/\xff"))
    text = "\n".join([*result_lines(summary, run), *next_lines(summary, run)])
    assert text.encode()
    assert text.count("runs/\\xff") == 7
