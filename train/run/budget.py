"""What the measurements before a run have in common: their time, and the profile of the machine.

In: a configuration and its data; a choice. Out: numbers, for `decide` and `pick_executor`; a line
in the profile.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import printable
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.number_text import number_text
from slipform.pipelines.profile import profile_path, write_profile
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.step.data import global_batch_size, num_training_samples

__all__ = ["BUDGET_SHARE", "SHORT_SECONDS", "figures", "keep_choice", "num_steps"]

BUDGET_SHARE = 0.02  # of the expected time of the run
SHORT_SECONDS = 60.0  # nothing is measured for a shorter run


def num_steps(config: RunConfig, manifest: Manifest, process: Process) -> int:
    """The number of batches of a run, on each process.

    Args:
        config: The configuration; train.batch_size is a number.
        manifest: The manifest of the dataset.
        process: The number of processes.
    """
    images = num_training_samples(config, manifest)
    return config.train.epochs * (images // global_batch_size(config, process.world_size))


def figures(rates: Any) -> str:
    """The images/s of the choices, for a message.

    Args:
        rates: Choice -> its images/s. A damaged profile may have anything.

    Returns:
        "in images/s: host 120; dali 27"; "" if `rates` is not that.
    """
    if not isinstance(rates, dict) or not rates:
        return ""
    if not all(isinstance(rate, int | float) and rate > 0 for rate in rates.values()):
        return ""
    return "in images/s: " + "; ".join(
        f"{name} {number_text(rate, 3)}" for name, rate in rates.items()
    )


def keep_choice(key: str, found: dict[str, Any], path: Path | None = None) -> str:
    """Write a choice to the machine's profile, with today's date, for the next run.

    Args:
        key: The key in the profile.
        found: The choice.
        path: The file with the profiles. Default: that of the machine.

    Returns:
        "", or the end of a sentence that says why the file cannot be written.
    """
    path = path or profile_path()
    try:
        write_profile(path, key, {**found, "date": date.today().isoformat()})
    except OSError as error:  # a full disk, or a folder that cannot be written to
        name = printable(str(error.filename or path))
        return f"; not kept for the next run ({name}: {error.strerror or error})"
    return ""
