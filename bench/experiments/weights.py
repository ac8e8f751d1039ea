"""The files of ImageNet weights that the reports' runs need.

In: the runs. Out: the net, the name of the file and its size.
"""

from __future__ import annotations

from collections.abc import Iterable

from slipform.bench.experiments.runs import Outcome
from slipform.models.imagenet import imagenet_entry

__all__ = ["weight_files"]


def weight_files(runs: Iterable[Outcome]) -> list[tuple[str, str, float]]:
    """List the files that runs need.

    Args:
        runs: Runs that start from ImageNet weights.

    Returns:
        (net, name of the file, size in MB of 10**6 bytes), sorted by the net.
    """
    nets = {(one.model["name"], one.model["weights"]) for one in runs}
    found = []
    for name, weights in sorted(nets):
        entry = imagenet_entry(weights, name)
        megabytes = entry.meta["_file_size"] * 2**20 / 10**6
        found.append((name, entry.url.rpartition("/")[2], megabytes))
    return found
