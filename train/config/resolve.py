"""Make a checked `RunConfig` from a recipe and `--set a.b=c`.

In: a recipe, a run of it, settings, the dataset's manifest. Out: a RunConfig. Each of these
replaces settings of the ones before it: defaults of the classes, defaults for the dataset (only
without a recipe), the recipe, the run of a sweep, `--set`. This module does not import torch, so
that `--help` is fast.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import Manifest
from slipform.train.config.layers import Settings, laid_over, merged, nested
from slipform.train.config.recipe import Recipe, SweepRun, load_recipe
from slipform.train.config.run_config import RunConfig, check

__all__ = ["dataset_defaults", "defaults_note", "resolve"]

_LARGEST_BATCH, _SMALLEST_BATCH = 128, 8


def resolve(
    recipe: Recipe | None = None,
    sets: Iterable[str] = (),
    manifest: Manifest | None = None,
    run: SweepRun | None = None,
) -> RunConfig:
    """Make the checked configuration of a run.

    Args:
        recipe: The recipe. Default: settings for the manifest's dataset; see `dataset_defaults`.
        sets: Texts "SECTION.KEY=VALUE" that change settings. The value is TOML or a bare word.
        manifest: The manifest of the dataset, read where there is no recipe. Default: the defaults
            of the configuration's classes.
        run: A run of the recipe, if the recipe is a sweep.

    Raises:
        ConfigError: A setting is unknown, or its value is not allowed.

    Example:
        >>> import slipform as sf
        >>> config = sf.resolve(sf.load_recipe("shapes/demo"), ["train.epochs=1"])
        >>> config.model.name, config.train.epochs
        ('tiny', 1)
    """
    settings = recipe.base if recipe else dataset_defaults(manifest) if manifest else {}
    if run:
        settings = laid_over(settings, run.overrides)
    chosen: Settings = {}
    for text in sets:
        chosen = merged(chosen, _parse_set(text))
    return check(laid_over(settings, chosen))


def dataset_defaults(manifest: Manifest) -> Settings:
    """Settings for a dataset without a recipe; the size of its images decides.

    Images up to 48 px (MNIST, CIFAR) keep their size and get a random crop with padding 4. Images
    up to 128 px get the size 64. Larger ones get 224, the usual size of torchvision's nets. The
    learning rate is lower than in usual recipes for SGD, so that small batches do not diverge. A
    batch is an eighth of the training images, 8 to 128, so that an epoch of a small dataset has
    several steps.

    Args:
        manifest: The manifest of the dataset.
    """
    split = manifest.split("train")
    largest = max(split.max_height, split.max_width)
    model: Settings = {"name": "resnet18", "small_input": True}
    augment: Settings = {"flip": "horizontal", "normalize": "dataset"}
    if largest <= 48:
        augment |= {"image_size": largest, "resize": largest, "crop": "random", "padding": 4}
        if manifest.dataset == "mnist":
            augment |= {"padding": 2, "flip": "none"}
            model = {"name": "cnn"}
    else:
        augment |= {"crop": "random_resized", "scale": [0.35, 1.0]}
        if largest <= 128:
            augment |= {"image_size": 64, "resize": 72}
        else:
            augment |= {"image_size": 224, "resize": 256}
            model = {"name": "resnet18"}
    batch_size = min(_LARGEST_BATCH, max(_SMALLEST_BATCH, split.num_samples // 8))
    return {
        "description": f"defaults for {manifest.dataset}",
        "augment": augment,
        "model": model,
        "optimizer": {
            "name": "sgd",
            "lr": 0.05,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 5e-4,
        },
        "schedule": {"name": "cosine", "warmup_epochs": 1.0},
        "loss": {"name": "bce"} if manifest.labels == "multi" else {"label_smoothing": 0.1},
        "train": {"epochs": 20, "batch_size": min(batch_size, max(1, split.num_samples))},
    }


def defaults_note(config: RunConfig, manifest: Manifest) -> str:
    """A text of one or two lines about the settings of a run without a recipe.

    Args:
        config: The configuration, from `resolve` without a recipe.
        manifest: The manifest of the dataset.
    """
    num_samples = manifest.split("train").num_samples
    model = config.model
    start = "from scratch" if model.weights == "none" else f"from {model.weights}"
    lines = [
        f"no recipe given: {model.name} {start}, train.epochs = {config.train.epochs},"
        f" {config.augment.image_size} px"
    ]
    default = dataset_defaults(manifest)["train"]["batch_size"]
    if config.train.batch_size == default < _LARGEST_BATCH:
        lines[0] += (
            f", batch {default} (not {_LARGEST_BATCH}: there are {num_samples} training images;"
            " change it with --set train.batch_size=N)"
        )
    if model.weights == "none" and config.augment.image_size >= 128:
        from slipform.models.imagenet import cached_imagenet  # imports torch

        name = load_recipe("finetune").base["model"]["name"]
        place = "are on this machine" if cached_imagenet(name) else "are downloaded once"
        lines.append(
            "photographs train faster and better from pretrained weights: --recipe finetune"
            f" (the weights of {name} {place})"
        )
    return "\n".join(lines)


def _parse_set(text: str) -> Settings:
    key, sign, value = text.partition("=")
    if not sign or not all(re.fullmatch(r"[\w-]+", part) for part in key.strip().split(".")):
        raise ConfigError(f"--set {text}: give SECTION.KEY=VALUE, for example --set train.epochs=1")
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()  # a bare word: --set model.name=resnet18
    return nested(key.strip(), parsed)
