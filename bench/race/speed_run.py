"""Keller Jordan's CIFAR-10 speed runs (airbench94.py, airbench94_muon.py) as a contestant of `bench
accuracy --against SCRIPT`.

In: his script, fetched by the user from github.com/KellerJordan/cifar10-airbench, and a CIFAR-10
dataset folder. Out: a row.

The script runs as it is, in a process of its own, on our images: they are put where it looks for
what it has downloaded. It prints a line for each epoch; its own clock counts whitening, training
and the test with mirrored and shifted images, and its first run, which warms the compiler up, is
left out, as he does.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from slipform.bench.race.measure import figure
from slipform.bench.result.result import Row, Settings
from slipform.bench.suites.epoch_to_accuracy import summary
from slipform.pipelines.beton import Beton
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.manifest import read_manifest

_WARM_UP = "warmup"


def check(script: Path, data: Path) -> None:
    """Raises SlipformError where the script is no file or the dataset is none that it can train
    on."""
    if not script.is_file():
        raise SlipformError(
            f"--against {script} is no file. Give airbench94_muon.py of"
            " github.com/KellerJordan/cifar10-airbench."
        )
    manifest = read_manifest(data)
    for split in (manifest.split("train"), manifest.split("test")):
        sides = {split.min_height, split.max_height, split.min_width, split.max_width}
        if manifest.num_classes != 10 or sides != {32} or split.modes["jpg"]:
            raise SlipformError(
                f"--against trains on CIFAR-10's pixels, not JPEGs; {data} is {manifest.dataset}"
            )


def run(
    script: Path, data: Path, seeds: int, target: float, device: str, say: Callable[[str], None]
) -> Row:
    """Its first `seeds` runs after the warm-up. It takes its seeds from the clock: they cannot be
    chosen."""
    case: Settings = {
        "data": read_manifest(data).dataset,
        "recipe": script.name,
        "target": target,
        "device": device,
    }
    case["settings"] = ""
    if device == "cpu":
        return Row(
            suite="accuracy", case=case, status="not possible", note="it runs on NVIDIA GPUs only"
        )
    with (
        tempfile.TemporaryDirectory(prefix="slipform-bench-") as scratch,
        open(Path(scratch, "errors"), "w+") as errors,
    ):
        write_images(data, Path(scratch, "cifar10"))
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(script.resolve())],
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        found: list[tuple[float, float]] = []
        start_up = 0.0
        try:
            for name, accuracy, seconds in finished_runs(process.stdout):
                if name == _WARM_UP:
                    start_up = time.perf_counter() - began - seconds
                    continue
                found.append((accuracy, seconds))
                say(f"{script.name}, run {name}: accuracy {accuracy:.4f} after {seconds:.2f} s")
                if len(found) == seeds:
                    break
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if len(found) < seeds:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or ["it said nothing"]
            return Row(
                suite="accuracy",
                case=case,
                status="failed",
                note=f"ended after {len(found)} runs: {last[0]}",
            )
    accuracies = [accuracy for accuracy, _ in found]
    figures = {
        "accuracy": figure(accuracies),
        "train_seconds": figure([seconds for _, seconds in found]),
        "start_up_seconds": figure([start_up]),
    }
    if reached := [seconds for accuracy, seconds in found if accuracy >= target]:
        figures["seconds_to_target"] = figure(reached)
    settings = summary(accuracies, len(reached)) | {
        "sha256": hashlib.sha256(script.read_bytes()).hexdigest()[:16]
    }
    return Row(suite="accuracy", case=case, settings=settings, figures=figures)


def write_images(data: Path, folder: Path) -> None:
    """train.pt and test.pt: {"images": uint8 [N, 32, 32, 3], "labels": int64 [N], "classes":
    names}."""
    import numpy as np
    import torch

    manifest = read_manifest(data)
    folder.mkdir()
    for name in ("train", "test"):
        beton = Beton(data / manifest.split(name).file)
        images = torch.from_numpy(np.stack([beton.raw(index) for index in range(len(beton))]))
        labels = torch.from_numpy(beton.labels.astype(np.int64))
        torch.save(
            {"images": images, "labels": labels, "classes": list(manifest.classes)},
            folder / f"{name}.pt",
        )


def finished_runs(lines: Iterable[str]) -> Iterator[tuple[str, float, float]]:
    """(run, test accuracy, seconds) for each run in the table that the script prints; its name
    stands in its first line only."""
    name = ""
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 6 or cells[0] == "run":
            continue
        name = cells[0] or name
        if cells[1] == "eval":
            yield name, float(cells[4]), float(cells[5])
