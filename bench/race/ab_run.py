"""One measured run of an arm of `bench ab`.

In: a dataset folder, a recipe, settings, a seed, a run folder. Out: the numbers of its summary. A
finished run in the folder is used again, and an unfinished one is continued.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipform.pipelines.errors import ConfigError, SlipformError

__all__ = ["METRICS", "settings_of", "train_arm"]

_ADVICE = "give another --runs, or remove the folder"
METRICS = ("test_accuracy", "test_loss", "val_accuracy")


def settings_of(data: str, recipe: str, sets: tuple[str, ...], seed: int) -> Any:
    """The settings of a run.

    Args:
        data: The dataset folder.
        recipe: The name or path of a recipe; NAME:RUN is one run of a sweep.
        sets: Texts "SECTION.KEY=VALUE" that change settings.
        seed: The setting train.seed.

    Returns:
        A RunConfig.

    Raises:
        ConfigError: There is no such recipe or setting, the recipe is a sweep, or `sets` has a
            train.seed.
    """
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.config.recipe import load_one
    from slipform.train.config.resolve import resolve

    for text in sets:
        if text.partition("=")[0].strip() == "train.seed":
            raise ConfigError(f"{text}: the seeds are 0, 1, ...; remove it, and give --seeds")
    loaded, run = load_one(recipe)
    manifest = read_manifest(Path(data))
    return resolve(loaded, [*sets, f"train.seed={seed}"], manifest, run)


def train_arm(
    data: str,
    recipe: str,
    sets: tuple[str, ...],
    first: tuple[str, ...],
    seed: int,
    device: str,
    folder: str,
    reference: str = "",
) -> dict[str, float]:
    """Train once, in this process.

    The order of the samples and their augmentation follow from the seed, so they are equal in both
    arms where the settings allow it. The first weights are those of the arm `first` for all layers
    of equal shape: the same seed gives them where the nets are equal, else they are copied. "auto"
    becomes what it has become in the first run of the comparison if it is "auto" in both arms, else
    in the first run of this arm.

    Args:
        data: The dataset folder.
        recipe: The name or path of a recipe.
        sets: Texts "SECTION.KEY=VALUE" of this arm.
        first: Those of the arm whose first weights are taken.
        seed: The setting train.seed.
        device: "cpu" or "cuda".
        folder: The run folder.
        reference: The run folder of the first run of the comparison, of the arm `first`; the first
            run of this arm has the same name. "": this is the first run.

    Returns:
        The numbers of METRICS that the run has, images_per_second and seconds.

    Raises:
        SlipformError: The folder has a run of other settings, on other data or another device.
    """
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.records import read_summary
    from slipform.train.run.folder import CONFIG, run_config
    from slipform.train.run.loop import fit
    from slipform.train.run.unchanged import check_unchanged

    run = Path(folder)
    config, other = settings_of(data, recipe, sets, seed), settings_of(data, recipe, first, seed)
    if reference:
        own = run.with_name(Path(reference).name)
        both = _decided(other, Path(reference), run)
        own_auto = _auto(config)
        config = _with({name: both[name] for name in both if name in own_auto}, config)
        config = _with(_decided(config, own, run), config)
    untrained = config.model.weights == other.model.weights == "none"
    if (run / CONFIG).exists():
        if untrained and run_config(run).model.weights == str(_first_weights(run)):
            config = config.replace("model.weights", str(_first_weights(run)))
        check_unchanged(run, config, read_manifest(Path(data)), _ADVICE, _has_no_effect)
        _check_device(run, device)
        if read_summary(run) is None:  # its own settings: they have what "auto" has become
            fit(run_config(run), data, run, device=device, quiet=True, resume=True)
    else:
        if untrained and config.model != other.model:
            config = _shared(config, other, data, _first_weights(run))
        fit(config, data, run, device=device, quiet=True)
    summary = read_summary(run)
    assert summary is not None
    names = (*METRICS, "images_per_second", "seconds")
    return {name: float(summary[name]) for name in names if summary.get(name) is not None}


def _has_no_effect(name: str) -> bool:
    return name.startswith("records.")


def _auto(config: Any) -> set[str]:
    """The settings that are "auto", as "SECTION.KEY"."""
    return {
        f"{section}.{name}"
        for section, values in config.model_dump().items()
        if isinstance(values, dict)
        for name, value in values.items()
        if value == "auto"
    }


def _decided(config: Any, begun: Path, run: Path) -> dict[str, Any]:
    """What the settings that are "auto" have become in a run that has begun; {} in itself."""
    from slipform.train.run.folder import CONFIG, run_config
    from slipform.train.run.starts import read_starts

    if begun == run or not (begun / CONFIG).exists():
        return {}
    kept = run_config(begun).model_dump()
    starts = read_starts(begun)
    if starts and kept["data"]["executor"] == "auto":
        kept["data"]["executor"] = starts[0].executor
    found = {}
    for name in _auto(config):
        section, _, key = name.partition(".")
        if kept[section].get(key, "auto") != "auto":
            found[name] = kept[section][key]
    return found


def _with(values: dict[str, Any], config: Any) -> Any:
    for name, value in values.items():
        config = config.replace(name, value)
    return config


def _first_weights(run: Path) -> Path:
    """The file of the first weights, beside the run folder: a run without a checkpoint reads it."""
    return run.resolve().with_name(f"{run.name}-first.safetensors")


def _check_device(run: Path, device: str) -> None:
    """Check that a run was begun on this type of device: its numbers differ by rounding."""
    from slipform.train.records import read_summary
    from slipform.train.run.starts import read_starts

    kinds = {start.device for start in read_starts(run)}
    kinds |= {str((read_summary(run) or {}).get("device") or device).partition(":")[0]}
    if others := kinds - {device}:
        raise SlipformError(f"{run} has a run on {others.pop()}, not on {device}: {_ADVICE}")


def _shared(config: Any, other: Any, data: str, path: Path) -> Any:
    """The settings with the first weights of another arm, if enough of them fit."""
    import torch
    from safetensors.torch import save_file

    from slipform.models import registry
    from slipform.pipelines.files import replacing
    from slipform.pipelines.manifest import read_manifest

    num_classes = read_manifest(Path(data)).num_classes

    def build(one: Any) -> Any:
        torch.manual_seed(one.train.seed)
        size = one.augment.image_size
        return registry.build(
            one.model, num_classes=num_classes, image_size=size, on_load=lambda _: None
        )

    with torch.random.fork_rng([]):
        model = build(other)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            tensors = {name: x.contiguous() for name, x in model.state_dict().items()}
            save_file(tensors, temporary)
        changed = config.replace("model.weights", str(path))
        try:
            build(changed)
        except ConfigError:
            return config  # fewer than half of the tensors fit
    return changed
