"""normalize = "model": the images that the weights of the net were trained for.

In: settings whose [augment] has the word "model". Out: the same settings with the net's numbers.
The numbers are written into config.toml, so a resumed run and a trained model do not ask again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipform.models.spec import InputSpec, ModelConfig
from slipform.pipelines.errors import ConfigError, unknown
from slipform.pipelines.plan.augmentation import MEAN_STD, Augmentation
from slipform.train.config.layers import Settings

__all__ = ["input_note", "with_own_input"]

_WORD = "model"
_OURS = "bilinear"  # the filter of the executors, with antialiasing


def with_own_input(settings: Settings) -> Settings:
    """Replace the word "model" in [augment] by the numbers of the net.

    augment.normalize, augment.image_size and augment.resize may have that word. With normalize =
    "model", image_size, resize and crop are those of the net unless they are given, too. resize
    keeps the net's share of the center crop at any image_size.

    Args:
        settings: Nested dictionaries, as TOML gives them.

    Raises:
        ConfigError: The net has no such numbers, or there is no such net.
    """
    augment, model = settings.get("augment"), settings.get("model") or {}
    if not isinstance(augment, dict) or not isinstance(model, dict):
        return settings
    normalize = augment.get("normalize")
    if isinstance(normalize, str) and normalize not in (*MEAN_STD, "dataset", _WORD):
        raise unknown("augment.normalize", normalize, (*MEAN_STD, "dataset", _WORD))
    asked = [name for name in ("normalize", "image_size", "resize") if augment.get(name) == _WORD]
    if not asked:
        return settings
    own = _known(model, asked[0])
    values = dict(augment)
    if normalize == _WORD:
        values["normalize"] = [list(own.mean), list(own.std)]
        for name in ("image_size", "resize"):
            values.setdefault(name, _WORD)
        if own.squash:
            values.setdefault("crop", "none")
    if values.get("image_size") == _WORD:
        values["image_size"] = own.image_size
    if values.get("resize") == _WORD:
        size = values.get("image_size", Augmentation().image_size)
        values["resize"] = own.resize(size) if isinstance(size, int) else size
    return {**settings, "augment": values}


def _known(model: Settings, name: str) -> InputSpec:
    from slipform.models.registry import own_input  # imports torch

    given: dict[str, Any] = {key: model[key] for key in ("name", "weights") if key in model}
    if not all(isinstance(value, str) for value in given.values()):
        given = {}  # the check of [model] names the wrong value
    config = ModelConfig(**given)
    own = own_input(config)
    if own is None:
        raise ConfigError(
            f'augment.{name} = "model": nothing is known about the images of the net'
            f' "{config.name}". Give numbers'
            + (', "dataset", "half" or "imagenet"' if name == "normalize" else "")
        )
    return own


def input_note(augment: Augmentation, model: ModelConfig) -> list[str]:
    """A line that compares the images that a net's weights were trained on with those of the run.

    Args:
        augment: The augmentation of the run.
        model: The net of the run.

    Returns:
        Nothing where the run has no pretrained weights, or where the net's images are not known.
    """
    from slipform.models.registry import own_input  # imports torch

    own = own_input(model) if model.weights != "none" else None
    if own is None or Path(model.weights).is_dir():  # a run folder has images of its own
        return []
    line = (
        f"images of the pretrained {model.name}: {own.image_size} px, resize"
        f" {own.resize(own.image_size)} ({own.interpolation}), mean {_triple(own.mean)}, deviation"
        f" {_triple(own.std)}."
    )
    differs = []
    if augment.image_size != own.image_size:
        differs.append(f"{augment.image_size} px")
    if MEAN_STD.get(str(augment.normalize), augment.normalize) != (own.mean, own.std):
        differs.append(f"augment.normalize = {augment.normalize}")
    advice = ' augment.normalize = "model" takes the numbers of the net.' if differs else ""
    if own.interpolation != _OURS:
        differs.append(f"{_OURS} resize with antialiasing")
    same = f" This run differs: {', '.join(differs)}." if differs else " This run has the same."
    return [line + same + advice]


def _triple(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
