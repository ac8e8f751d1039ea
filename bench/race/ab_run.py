"""One measured run of an arm of `bench ab`.

In: a dataset folder, a recipe, settings, a seed, a run folder. Out: the numbers of its summary. A
finished run in the folder is used again, and an unfinished one is continued.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipform.pipelines.errors import ConfigError, SlipformError

__all__ = ["METRICS", "settings_of", "train_arm"]

METRICS = ("test_accuracy", "test_loss", "val_accuracy")


def settings_of(data: str, recipe: str, sets: tuple[str, ...], seed: int) -> Any:
    """The settings of a run.

    Args:
        data: The dataset folder.
        recipe: The name or path of a recipe.
        sets: Texts "SECTION.KEY=VALUE" that change settings.
        seed: The setting train.seed.

    Returns:
        A RunConfig.
    """
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.config.recipe import load_recipe
    from slipform.train.config.resolve import resolve

    manifest = read_manifest(Path(data))
    return resolve(load_recipe(recipe), [*sets, f"train.seed={seed}"], manifest)


def train_arm(
    data: str,
    recipe: str,
    sets: tuple[str, ...],
    first: tuple[str, ...],
    seed: int,
    device: str,
    folder: str,
) -> dict[str, float]:
    """Train once, in this process.

    The order of the samples and their augmentation follow from the seed, so they are equal in both
    arms where the settings allow it. The first weights are those of the arm `first` for all layers
    of equal shape: the same seed gives them where the nets are equal, else they are copied.

    Args:
        data: The dataset folder.
        recipe: The name or path of a recipe.
        sets: Texts "SECTION.KEY=VALUE" of this arm.
        first: Those of the arm whose first weights are taken.
        seed: The setting train.seed.
        device: "cpu" or "cuda".
        folder: The run folder.

    Returns:
        The numbers of METRICS that the run has, images_per_second and seconds.

    Raises:
        SlipformError: The folder has a run of other settings, or on other data.
    """
    from slipform.train.records import read_summary
    from slipform.train.run.folder import CONFIG, run_config
    from slipform.train.run.loop import fit

    run = Path(folder)
    config, other = settings_of(data, recipe, sets, seed), settings_of(data, recipe, first, seed)
    if (run / CONFIG).exists():
        _check(run, config, data)
        if read_summary(run) is None:  # its own settings: they have what "auto" has become
            fit(run_config(run), data, run, device=device, quiet=True, resume=True)
    else:
        untrained = config.model.weights == other.model.weights == "none"
        if untrained and config.model != other.model:
            config = _shared(config, other, data, _first_weights(run))
        fit(config, data, run, device=device, quiet=True)
    summary = read_summary(run)
    assert summary is not None
    names = (*METRICS, "images_per_second", "seconds")
    return {name: float(summary[name]) for name in names if summary.get(name) is not None}


def _first_weights(run: Path) -> Path:
    """The file of the first weights, beside the run folder: a run without a checkpoint reads it."""
    return run.resolve().with_name(f"{run.name}-first.safetensors")


def _check(run: Path, config: Any, data: str) -> None:
    """Check that a run was begun with these settings and this dataset."""
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.run import identity
    from slipform.train.run.folder import run_config
    from slipform.train.run.resume import differences

    if changed := identity.differences(read_manifest(run), read_manifest(Path(data))):
        raise SlipformError(
            f"{run} has a run on other data: {'; '.join(changed)}. Give another --runs, or remove"
            " the folder."
        )
    kept = run_config(run)
    found = {
        name: values
        for name, values in differences(config, kept).items()
        if values[0] != "auto" and values != ("none", str(_first_weights(run)))
    }
    if found:
        name, (now, before) = next(iter(found.items()))
        raise SlipformError(
            f"{run} has a run of other settings: {name} = {before}, now {now}. Give another --runs,"
            " or remove the folder."
        )


def _shared(config: Any, other: Any, data: str, path: Path) -> Any:
    """The settings with the first weights of another arm, if enough of them fit."""
    import torch
    from safetensors.torch import save_file

    from slipform.pipelines.files import replacing
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.machine.distributed import Process
    from slipform.train.step.build import build_state

    num_classes, process = read_manifest(Path(data)).num_classes, Process(torch.device("cpu"))
    state = build_state(other.unweighted(), num_classes=num_classes, process=process)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file({name: x.contiguous() for name, x in state.model.state_dict().items()}, temporary)
    changed = config.replace("model.weights", str(path))
    try:
        build_state(
            changed.unweighted(), num_classes=num_classes, process=process, on_load=lambda _: None
        )
    except ConfigError:
        return config  # fewer than half of the tensors fit
    return changed
