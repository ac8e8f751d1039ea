"""The files of ImageNet weights that the reports' runs need, and where they belong.

In: the outcomes of all runs. Out: the net, the name of the file and its size; a section of the
page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slipform.bench.experiments.runs import Outcome
from slipform.models.imagenet import imagenet_entry

__all__ = ["weight_files", "weights_section"]


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


def weights_section(found: Sequence[Outcome]) -> list[str]:
    """Where ImageNet weights go, and the command that trains the runs that wait for them.

    Args:
        found: The outcomes of all runs of the reports.
    """
    waiting = [one for one in found if one.needs_weights and one.state != "measured"]
    if not waiting:
        return []
    return [
        f"## The {len(waiting)} runs that wait for weights",
        "",
        "They need torchvision's ImageNet weights, which are downloaded where there is a network."
        " Without one, put these files into `~/.cache/torch/hub/checkpoints`"
        " (`$TORCH_HOME/hub/checkpoints`). The SHA-256 of a file begins with the last part of its"
        " name; it is compared.",
        "",
        "| net | file | MB |",
        "| --- | --- | --- |",
        *(f"| {name} | {file} | {size:.1f} |" for name, file, size in weight_files(waiting)),
        "",
        "Then one command trains them all, and goes on where it was cut off:"
        " `slipform bench experiments --train waiting --data data`.",
        "",
    ]
