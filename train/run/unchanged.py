"""Whether a run in a folder is the one that is asked for, so that it can be used again.

In: a run folder, the settings and the dataset that are asked for. Out: nothing, or an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.pipelines.toml_text import shown
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run import identity
from slipform.train.run.folder import CONFIG, run_config
from slipform.train.run.resume import differences
from slipform.train.run.teacher import check_not_own, with_teacher

__all__ = ["check_unchanged", "continued"]


def continued(run: Path, config: RunConfig, manifest: Manifest) -> RunConfig | None:
    """The settings with which a command continues the run that it began.

    Args:
        run: The run folder.
        config: The settings of the command.
        manifest: The manifest of the dataset.

    Returns:
        The settings of the run, where "auto" has become a value. None: there is no run yet.

    Raises:
        ConfigError: The run has other settings or another dataset.
    """
    advice = f"give another --out, or change the settings of the run: --resume {run} --set A.B=C"
    check_unchanged(run, config, manifest, advice, lambda _: False)
    return run_config(run) if (run / CONFIG).is_file() else None


def check_unchanged(
    run: Path,
    config: RunConfig,
    manifest: Manifest,
    advice: str,
    has_no_effect: Callable[[str], bool],
) -> None:
    """Check that the run in a folder, if there is one, has the settings and data asked for.

    Args:
        run: The run folder.
        config: The settings asked for. "auto" is equal to what a run has chosen. The weights of a
            teacher are those that it has now.
        manifest: The manifest of the dataset.
        advice: What to do if not, for the text of the error: "give another --out".
        has_no_effect: Whether a setting such as "data.threads" need not be compared.

    Raises:
        ConfigError: The run has other settings or another dataset.
    """
    check_not_own(config, run)
    if not (run / CONFIG).is_file():
        return
    if found := identity.differences(read_manifest(run), manifest):
        raise ConfigError(f"{run} was trained on another dataset: {'; '.join(found)}: {advice}")
    config = with_teacher(config, manifest, Process(torch.device("cpu")))
    divided = manifest.labels == "multi" and config.data.fold  # what data.fold_rule is about
    changed = [
        f"{name} = {shown(before)}, not {shown(now)}"
        for name, (before, now) in differences(run_config(run), config).items()
        if now != "auto" and not has_no_effect(name) and (divided or name != "data.fold_rule")
    ]
    if changed:
        raise ConfigError(f"{run} was run with {', '.join(changed)}: {advice}")
