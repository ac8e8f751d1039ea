"""Several runs of the command train, one after the other in the same processes.

In: JSON, the arguments of each run. Out: the runs, and a line "pixels INODES" for each loader that
decoded all images, with the memory files of Slipform that the process then maps. This program is
started as torchrun starts train; its start and the imports take longer than the small runs of
tests. The runs draw no figures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from slipform.pipelines.decoding.preload import decode_all
from slipform.pipelines.executors import resident
from slipform.train.cli import train
from slipform.train.run import finish


def told(*arguments: Any, **options: Any) -> Any:
    """`decode_all`, which says what memory the process shares."""
    decoded = decode_all(*arguments, **options)
    maps = Path("/proc/self/maps").read_text().splitlines()
    inodes = sorted({line.split()[4] for line in maps if "memfd:slipform" in line})
    sys.stdout.write(" ".join(["pixels", *inodes]) + "\n")
    return decoded


if __name__ == "__main__":
    finish._draw = lambda *_: None
    vars(resident)["decode_all"] = told
    for arguments in json.loads(sys.argv[1]):
        train(arguments, standalone_mode=False)
