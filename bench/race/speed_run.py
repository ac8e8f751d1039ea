"""Public CIFAR-10 speed runs, as contestants of `bench accuracy --against SCRIPT_OR_LOG`.

In: the script airbench94.py or airbench94_muon.py, which the user downloads from
github.com/KellerJordan/cifar10-airbench, or cifar10_speedrun.py from
github.com/hiverge/cifar10-speedrun, and a CIFAR-10 dataset folder. Or a log: what such a script has
printed. Out: accuracy and seconds of each run.

The script runs unchanged in its own process, on the images of the dataset folder: they are written
to the path of the script's download. It prints a line for each epoch. Its clock includes whitening,
training and the test with mirrored and shifted images. Its first run warms up the compiler and does
not count, as in the original.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from slipform.bench.race.worker import CallFailed
from slipform.pipelines.dataset import open_split
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import open_regular
from slipform.pipelines.manifest import read_manifest

__all__ = ["check", "finished_runs", "is_log", "read_log", "run", "write_images"]

_WARM_UP = "warmup"
_MAX_LOG_BYTES = 64 << 20


def check(script: Path, data: Path) -> None:
    """Check that the script can run, or that the log has runs, before any training.

    Args:
        script: The script or the log.
        data: The dataset folder.

    Raises:
        SlipformError: It is no file, the log has no runs, or the dataset does not have the pixels
            of CIFAR-10.
    """
    if not script.is_file():
        raise SlipformError(
            f"--against {script} is no file. Give airbench94_muon.py of"
            " github.com/KellerJordan/cifar10-airbench, or a log of it."
        )
    if is_log(script):
        read_log(script)
    manifest = read_manifest(data)
    for split in (manifest.split("train"), manifest.split("test")):
        sides = {split.min_height, split.max_height, split.min_width, split.max_width}
        if manifest.num_classes != 10 or sides != {32} or split.modes["jpg"]:
            raise SlipformError(
                f"--against trains on CIFAR-10's pixels, not JPEGs; {data} is {manifest.dataset}"
            )


def is_log(path: Path) -> bool:
    """Whether a file is a log: its name does not end in .py.

    Args:
        path: The file.
    """
    return path.suffix != ".py"


def read_log(path: Path) -> list[dict[str, float]]:
    """The runs in a log, without the warm-up.

    Args:
        path: The log.

    Returns:
        accuracy and train_seconds of each run.

    Raises:
        SlipformError: It cannot be read, or has no finished run.
    """
    with open_regular(path) as file:
        text = file.read(_MAX_LOG_BYTES).decode("utf-8", errors="replace")
    runs = [
        {"accuracy": accuracy, "train_seconds": seconds}
        for name, accuracy, seconds in finished_runs(text.splitlines())
        if name != _WARM_UP
    ]
    if not runs:
        raise SlipformError(
            f"--against {path}: this log has no finished run. Give the output of airbench94_muon.py"
            " or of cifar10_speedrun.py, or a script whose name ends in .py"
        )
    return runs


def run(
    script: Path, data: Path, seeds: int, device: str, say: Callable[[str], None]
) -> list[dict[str, float]]:
    """Measure the first runs of the script after its warm-up.

    Args:
        script: The script. Its seeds come from the clock and cannot be chosen.
        data: A CIFAR-10 dataset folder.
        seeds: The number of runs.
        device: "cpu" or "cuda".
        say: Called with a message about each run.

    Returns:
        accuracy and train_seconds of each run; the first one also has start_up_seconds.

    Raises:
        CallFailed: The device is a CPU, or the script ended too early.
    """
    if device == "cpu":
        raise CallFailed("it runs on NVIDIA GPUs only", "not possible")
    runs: list[dict[str, float]] = []
    start_up = 0.0
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
        try:
            for name, accuracy, seconds in finished_runs(process.stdout):
                if name == _WARM_UP:
                    start_up = time.perf_counter() - began - seconds
                    continue
                runs.append({"accuracy": accuracy, "train_seconds": seconds})
                say(f"{script.name}, run {name}: accuracy {accuracy:.4f} after {seconds:.2f} s")
                if len(runs) == seeds:
                    break
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if len(runs) < seeds:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or ["it printed no error"]
            raise CallFailed(f"ended after {len(runs)} runs: {last[0]}")
    runs[0]["start_up_seconds"] = start_up
    return runs


def write_images(data: Path, folder: Path) -> None:
    """Write train.pt and test.pt for the script.

    Args:
        data: A dataset folder of raw images.
        folder: The folder to create. Each file contains {"images": uint8 [N, 32, 32, 3], "labels":
            int64 [N], "classes": names}.
    """
    import numpy as np
    import torch

    manifest = read_manifest(data)
    folder.mkdir()
    for name in ("train", "test"):
        beton = open_split(data, manifest, name)
        images = torch.from_numpy(np.stack([beton.raw(index) for index in range(len(beton))]))
        labels = torch.from_numpy(beton.labels.astype(np.int64))
        torch.save(
            {"images": images, "labels": labels, "classes": list(manifest.classes)},
            folder / f"{name}.pt",
        )


def finished_runs(lines: Iterable[str]) -> Iterator[tuple[str, float, float]]:
    """Parse the table that the script prints.

    Args:
        lines: The lines of the table. Only the first line of a run has its name.

    Yields:
        (name of the run, test accuracy, seconds) for each finished run.
    """
    name, width = "", 6
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "run" in cells and "epoch" in cells:
            width = len(cells) - cells.index("run")  # older scripts also print the loss
            continue
        # Other text may stand before the table's line: "Mean accuracy: 0.94\r| 1 | eval".
        cells = cells[-width:]
        if len(cells) != width:
            continue
        name = cells[0] or name
        if cells[1] == "eval":
            try:
                yield name, float(cells[-2]), float(cells[-1])
            except ValueError:  # another table, or a line that was cut
                continue
