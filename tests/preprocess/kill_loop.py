"""test_safety.py runs this in a separate process, which forks a prep in each round and kills it at
a random moment.

In: a folder and a number of rounds. Out: one line per round: the dataset in the folder afterwards,
old or new. It forks, because a new interpreter would spend most of the time on imports.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.build import build_dataset
from slipform.preprocess.encode import Encoding
from slipform.preprocess.source import Arrays, SampleSource
from slipform.preprocess.verify import find_faults


def dataset(version: int) -> SampleSource:
    """Images of the same sizes with other pixels."""
    images = np.random.default_rng(version).integers(0, 256, (1500, 24, 24, 3), np.uint8)
    arrays = Arrays(images, np.arange(1500, dtype=np.int64) % 3, "made")
    return SampleSource(
        f"version-{version}",
        list("abc"),
        {"train": arrays, "test": arrays.subset(np.arange(500))},
        "",
    )


def main() -> None:
    out, rounds = Path(sys.argv[1]) / "data", int(sys.argv[2])
    chance = random.Random(0)
    begin = time.perf_counter()
    build_dataset(dataset(0), out, Encoding("raw"), threads=2)
    seconds = time.perf_counter() - begin
    version = 0
    for number in range(1, rounds + 1):
        child = os.fork()
        if child == 0:
            build_dataset(dataset(number), out, Encoding("raw"), threads=2)
            os._exit(0)
        if number != rounds:  # the first one is killed at its start; the last one ends by itself
            time.sleep(chance.uniform(0, 1.5 * seconds) if number > 1 else 0)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        manifest = read_manifest(out)
        faults = list(find_faults(out, manifest, threads=1))
        assert not faults, faults
        assert manifest.dataset in (f"version-{version}", f"version-{number}"), manifest.dataset
        print("new" if manifest.dataset == f"version-{number}" else "old", flush=True)  # noqa: T201
        version = int(manifest.dataset.split("-")[1])
    build_dataset(dataset(rounds + 1), out, Encoding("raw"), threads=2)
    assert os.listdir(out.parent) == ["data"], os.listdir(out.parent)


if __name__ == "__main__":
    main()
