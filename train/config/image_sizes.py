"""The size of images over the epochs: small at first, and a size of its own for evaluation.

In: a RunConfig. Out: the `Augmentation` of an epoch, or of evaluation. Lengths in pixels change
with the size, so that the same part of an image is seen. Sources: J. Howard, fastai's progressive
resizing, 2018; ffcv's recipe for ResNet-18, 2022. For a larger size in evaluation: Touvron et al.,
"Fixing the train-test resolution discrepancy", 2019.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.augmentation import Augmentation

if TYPE_CHECKING:
    from slipform.train.config.run_config import RunConfig

__all__ = [
    "all_sizes",
    "check_sizes",
    "evaluation_augment",
    "pixel_share",
    "size_at",
    "sizes_note",
    "training_augment",
    "training_sizes",
]


def check_sizes(config: RunConfig) -> None:
    """Check train.image_sizes and train.eval_size.

    Args:
        config: The configuration of a run.

    Raises:
        ConfigError: Epochs do not rise, or a size is not allowed.
    """
    pairs, train = config.train.image_sizes, config.train
    example = "give pairs of an epoch and a size, such as [[1, 128], [9, 160]]"
    if any(epoch < 1 for epoch, _ in pairs):
        raise ConfigError(f"train.image_sizes: epochs are counted from 1; {example}")
    if any(before >= after for (before, _), (after, _) in pairwise(pairs)):
        raise ConfigError(f"train.image_sizes: epochs must rise from pair to pair; {example}")
    for name, sizes in (
        ("image_sizes", [size for _, size in pairs]),
        ("eval_size", [train.eval_size] if train.eval_size else []),
    ):
        if wrong := [size for size in sizes if not 1 <= size <= 4096]:
            raise ConfigError(f"train.{name}: a size of {wrong[0]} px; give 1 to 4096")
    smallest = evaluation_augment(config).image_size
    if train.shift_test >= smallest:
        raise ConfigError(
            f"train.shift_test = {train.shift_test}: give less than the size of images in"
            f" evaluation, {smallest}"
        )


def size_at(config: RunConfig, epoch: int) -> int:
    """The side of the training images in an epoch.

    Args:
        config: The configuration of a run.
        epoch: The epoch, from 1.
    """
    begun = [size for first, size in config.train.image_sizes if first <= epoch]
    return begun[-1] if begun else config.augment.image_size


def training_augment(config: RunConfig, epoch: int) -> Augmentation:
    """The augmentation of an epoch.

    Args:
        config: The configuration of a run.
        epoch: The epoch, from 1.

    Returns:
        `config.augment`, with other lengths in pixels if the epoch has another size.
    """
    return _scaled(config.augment, size_at(config, epoch))


def evaluation_augment(config: RunConfig) -> Augmentation:
    """The augmentation of evaluation: nothing random, at train.eval_size if that is given.

    Args:
        config: The configuration of a run.
    """
    size = config.train.eval_size or config.augment.image_size
    return _scaled(config.augment, size).evaluation()


def training_sizes(config: RunConfig) -> list[int]:
    """The sizes of the training images, in the order in which they occur, each once.

    Args:
        config: The configuration of a run.
    """
    return list(dict.fromkeys(size_at(config, e) for e in range(1, config.train.epochs + 1)))


def all_sizes(config: RunConfig) -> list[int]:
    """The sizes of all images that the net gets, each once.

    Args:
        config: The configuration of a run.
    """
    return list(dict.fromkeys([*training_sizes(config), evaluation_augment(config).image_size]))


def pixel_share(config: RunConfig) -> float:
    """The pixels of all training images, as a share of those at augment.image_size throughout.

    The time of a convolutional net is about proportional to it.

    Args:
        config: The configuration of a run.
    """
    epochs = range(1, config.train.epochs + 1)
    pixels = sum(size_at(config, epoch) ** 2 for epoch in epochs)
    return pixels / (len(epochs) * config.augment.image_size**2)


def sizes_note(config: RunConfig) -> str:
    """A text for the first line of a run.

    Args:
        config: The configuration of a run.

    Returns:
        ", 128 px, 160 px from epoch 9 (42 % of the pixels of 224 px), 256 px in evaluation". Sizes
        of train.image_sizes after the last epoch are named as unused. "": all images have one size.
    """
    changes = []
    for epoch in range(1, config.train.epochs + 1):
        size = size_at(config, epoch)
        if epoch == 1 or size != size_at(config, epoch - 1):
            changes.append(f"{size} px" + (f" from epoch {epoch}" if epoch > 1 else ""))
    built, text = config.augment.image_size, ""
    if changes != [f"{built} px"]:
        share = f"{pixel_share(config):.0%}".replace("%", " %")
        text = f", {', '.join(changes)} ({share} of the pixels of {built} px)"
    evaluated = evaluation_augment(config).image_size
    if text or evaluated != built:
        text += f", {evaluated} px in evaluation"
    train = config.train
    late = [f"{size} px from epoch {e}" for e, size in train.image_sizes if e > train.epochs]
    if late:
        text += f", not used: {', '.join(late)} (train.epochs = {train.epochs})"
    return text


def _scaled(augment: Augmentation, size: int) -> Augmentation:
    """The augmentation at another size."""
    if size == augment.image_size:
        return augment

    def scaled(length: int) -> int:
        return max(1, round(length * size / augment.image_size)) if length else 0

    return replace(
        augment,
        image_size=size,
        resize=scaled(augment.resize),
        evaluation_resize=scaled(augment.evaluation_resize),
        padding=scaled(augment.padding),
    )
