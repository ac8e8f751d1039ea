"""The page of examples with the real Lightning and timm, and with timm's train.py."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.page_blocks import blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1600)]

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "train/examples/README.md"
TRAIN_PY = "SLIPFORM_TIMM_TRAIN"


@pytest.mark.parametrize("package", ["lightning", "timm"])
def test_the_blocks_run_with_the_real_package(
    package: str,
    needs: Callable[[str], None],
    reader: Path,
    run_python: Callable[..., str],
) -> None:
    needs(package)
    assert any(block.needs == package for block in blocks(PAGE))
    printed = run_python("-W", "ignore", "-m", "tests.page_blocks", str(PAGE))
    errors = json.loads((reader / "errors.json").read_text(encoding="utf-8"))
    assert errors == {str(PAGE): ""}, errors
    if package == "timm":
        assert "% of 60 images" in printed  # the padding of the last batch is not counted


def test_lightning_trains_on_the_batches_of_a_plain_loop(
    needs: Callable[[str], None], last_line: Callable[..., Any]
) -> None:
    """Every epoch has its own order and no sample twice. The sanity check of one batch does not
    change the later validations."""
    needs("lightning")
    found = last_line("-m", "tests.train.examples.lightning_run")
    assert found["trained"] == found["epochs"]
    assert found["same_images"]
    assert [len(set(epoch)) for epoch in found["trained"]] == [224, 224, 224]
    assert found["validated"] == [list(range(32)), *[list(range(60))] * 3]


def test_timm_s_script_trains_with_our_loader(
    needs: Callable[[str], None], reader: Path, run_python: Callable[..., str]
) -> None:
    """timm's train.py with the additional line of the page."""
    needs("timm")
    script = os.environ.get(TRAIN_PY)
    if not script:
        pytest.skip(f"needs timm's train.py: set {TRAIN_PY} to that file of pytorch-image-models")
    (module,) = [block for block in blocks(PAGE) if block.file == "slipform_timm.py"]
    (reader / module.file).write_text(module.text)
    (change,) = [block for block in blocks(PAGE) if block.language == "diff"]
    kept, added = change.text.splitlines()
    text = Path(script).read_text(encoding="utf-8")
    assert text.count(f"\n{kept[1:]}\n") == 1
    new = f"\n{kept[1:]}\n{added[1:]}\n"
    (reader / "train.py").write_text(text.replace(f"\n{kept[1:]}\n", new), encoding="utf-8")
    (command,) = [block for block in blocks(PAGE) if block.text.startswith("python train.py")]
    options = ["--epochs", "3", "--warmup-epochs", "0", "--batch-size", "32", "--device", "cpu"]
    options += ["--workers", "0", "--opt", "adamw", "--lr", "0.003", "--output", "out"]
    printed = run_python("-W", "ignore", *command.text.split()[1:], *options)
    (summary,) = (reader / "out").glob("*/summary.csv")
    with open(summary, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    losses = [float(row["train_loss"]) for row in rows]
    assert losses[-1] < losses[0], printed
    for row in rows:  # a share of the 60 images, without the padding
        right = float(row["eval_top1"]) * 60 / 100
        assert right == pytest.approx(round(right), abs=1e-3)
