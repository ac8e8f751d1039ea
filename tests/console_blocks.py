"""The commands in the console blocks of the Markdown pages: which of them can run here, and a run.

In: a console block, in the working folder of `prepare`. Out: nothing, or `CommandFailed`. A command
that needs what this machine may not have does not run; `reason_not` says why.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tests.modules import ROOT

# A pattern -> why such a command does not run.
_NOT_HERE = {
    r"s3://|/shared/|runs/remote|slipform\[|^ray ": "needs an object store or a cluster",
    r"--engine ray": "needs Ray; tests/preprocess/engines has tests with it",
    r"data/(caltech101|cifar10|mnist)|--download| DIR ": "needs data from the internet",
    r"--recipe finetune": "needs ImageNet weights",
    r"-per-node 8 ": "starts 8 processes",
    r"--to-divergence": "needs a run whose loss is not finite; tests/train/replay has such runs",
    r"wandb": "needs an account",
    r"\.parquet|timm/|python train\.py": "needs a package of an extra; its own tests run it",
    r"^(make|source|export) ": "is no command of Slipform",
    r"^slipform search|^bench ab": "trains 30 times and more; tests/train/search and tests/bench",
    r"augment\.own": "needs a file in a folder of Slipform; the Python block before it runs",
    r"^bench (scale|modeled|gpu|experiments)": "takes longer than 10 minutes, or needs a GPU",
    r"^bench (compare|report)": "needs results of the reader; tests/bench/result",
}


class CommandFailed(AssertionError):
    """A command of a page failed."""


def commands(block: str) -> Iterator[str]:
    """The command lines of a console block, without comments; continued lines are one line.

    Args:
        block: The text of the block.
    """
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield shlex.join(words)


def reason_not(command: str) -> str:
    """Why a command does not run here; "" if it does."""
    return next((why for what, why in _NOT_HERE.items() if re.search(what, command)), "")


def environment() -> dict[str, str]:
    """The environment of a reader: the commands of this checkout are on PATH, and one thread."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run_block(block: str) -> None:
    """Run the commands of a console block that can run here, in the working folder.

    Args:
        block: The text of the block.

    Raises:
        CommandFailed: A command failed. The text has its output.
    """
    for command in commands(block):
        if reason_not(command):
            continue
        out = re.search(r"--out (\S+)", command)
        if out and "--dry-run" not in command:
            shutil.rmtree(out[1], ignore_errors=True)  # `prepare` made it for the other pages
        done = subprocess.run(
            ["bash", "-euc", command], env=environment(), capture_output=True, text=True
        )
        if done.returncode:
            raise CommandFailed(f"{command}\n{done.stdout}{done.stderr}")


def prepare(folder: Path) -> None:
    """Write what the pages assume that a reader has, besides data/shapes and runs/demo.

    Args:
        folder: The working folder of the reader. It gets photos, birds, leaves and shards with
            images, names.txt, photo.jpg, data/photos, and runs/first and runs/second on it.
    """
    draws = np.random.default_rng(0)
    for name in ("cat", "dog", "fox"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(24):
            _draw(folder / "photos" / name / f"{name}{number or ''}.jpg", draws)
    shutil.copy(folder / "photos/cat/cat.jpg", folder / "photo.jpg")
    _listed(folder / "birds", "species", [str(number % 3) for number in range(40)], draws)
    shares = [",".join(str(int(number % 3 == k)) for k in range(3)) for number in range(40)]
    _listed(folder / "leaves", "healthy,rust,scab", shares, draws)
    _shards(folder)
    small = "--set model.name=tiny --set model.weights=none --set augment.image_size=32"
    for line in (
        "prep images --source photos --out data/photos --shorter-side 512",
        *(
            f"train data/photos {small} --set train.batch_size=8 --set train.epochs=2"
            f" --set train.seed={seed} --device cpu --out runs/{name}"
            for seed, name in enumerate(("first", "second"))
        ),
    ):
        done = subprocess.run(
            [Path(sys.executable).parent / line.split()[0], *line.split()[1:]],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def _draw(path: Path, draws: np.random.Generator) -> None:
    """Write a JPEG of 80 x 60 pixels."""
    pixels = cv2.resize(draws.integers(0, 256, (6, 8, 3)).astype(np.uint8), (80, 60))
    assert cv2.imwrite(str(path), pixels)


def _listed(folder: Path, columns: str, rows: list[str], draws: np.random.Generator) -> None:
    """Write images, and a list that gives the columns of each."""
    folder.mkdir()
    lines = [f"image,{columns}"]
    for number, row in enumerate(rows):
        _draw(folder / f"{number}.jpg", draws)
        lines.append(f"{number}.jpg,{row}")
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")


def _shards(folder: Path) -> None:
    """Write two tars of images and whole numbers, and the names of the classes."""
    (folder / "shards").mkdir()
    (folder / "names.txt").write_text("cat\ndog\nfox\n", encoding="utf-8")
    for shard in range(2):
        with tarfile.open(folder / "shards" / f"photos-{shard}.tar", "w") as tar:
            for number, path in enumerate(sorted((folder / "photos").rglob("*.jpg"))):
                if number % 2 == shard:
                    label = folder / "label"
                    label.write_text(str(("cat", "dog", "fox").index(path.parent.name)))
                    tar.add(path, f"{number:04}.jpg")
                    tar.add(label, f"{number:04}.cls")
                    label.unlink()
