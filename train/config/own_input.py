"""normalize = "model": the images that the weights of the net were trained for.

In: settings whose [augment] has the word "model". Out: the same settings with the net's numbers.
The numbers are written into config.toml, so a resumed run and a trained model do not ask again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from slipform.models.spec import InputSpec, ModelConfig
from slipform.pipelines.errors import ConfigError, nearest, unknown
from slipform.pipelines.plan.augmentation import MEAN_STD, Augmentation, Interpolation
from slipform.pipelines.toml_text import shown
from slipform.train.config.image_sizes import evaluation_augment
from slipform.train.config.layers import Settings

if TYPE_CHECKING:
    from slipform.train.config.run_config import RunConfig

__all__ = ["input_note", "with_own_input"]

_WORD = "model"
_WITH_WORD = (
    "augment.image_size",
    "augment.resize",
    "augment.normalize",
    "augment.interpolation",
)


def with_own_input(settings: Settings) -> Settings:
    """Replace the word "model" in [augment] by the numbers of the net.

    augment.normalize, image_size, resize and interpolation may have that word. With normalize =
    "model", image_size, resize and crop are those of the net, too, unless they are given: by a
    recipe, by --set, or by the defaults for a dataset without a recipe. The net's resize keeps its
    share of the center crop at any image_size. Only CPU cores resize bicubically, so interpolation
    must be asked for.

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
    filters = (*get_args(Interpolation), _WORD)
    interpolation = augment.get("interpolation")
    if isinstance(interpolation, str) and interpolation not in filters:
        raise unknown("augment.interpolation", interpolation, filters)
    for name in ("image_size", "resize"):
        value = augment.get(name)
        if isinstance(value, str) and value != _WORD:
            hint = nearest(value, [_WORD])
            raise ConfigError(f'augment.{name} = {shown(value)}: give pixels, or "{_WORD}".{hint}')
    words = ("normalize", "image_size", "resize", "interpolation")
    asked = [name for name in words if augment.get(name) == _WORD]
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
    if values.get("interpolation") == _WORD:
        values["interpolation"] = own.interpolation
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


def input_note(config: RunConfig) -> list[str]:
    """A line that compares the images that a net's weights were trained on with those of a run.

    Args:
        config: The configuration of the run.

    Returns:
        Nothing where the run has no pretrained weights, or where the net's images are not known.
    """
    from slipform.models.registry import own_input  # imports torch

    model = config.model
    own = own_input(model) if model.weights != "none" else None
    if own is None or Path(model.weights).is_dir():  # a run folder has images of its own
        return []
    shown = "squeezed to a square" if own.squash else f"resize {own.resize(own.image_size)}"
    line = (
        f"images of the pretrained {model.name}: {own.image_size} px, {shown}"
        f" ({own.interpolation}), mean {_triple(own.mean)}, deviation {_triple(own.std)}."
    )
    differs = _differences(config, own)
    if not differs:
        return [f"{line} This run has the same in evaluation."]
    words = [f'{name} = "{_WORD}"' for name in differs if name in _WITH_WORD]
    advice = f" For those of the net: {', '.join(words)}." if words else ""
    return [f"{line} This run differs: {', '.join(differs.values())}.{advice}"]


def _differences(config: RunConfig, own: InputSpec) -> dict[str, str]:
    """Setting -> its value, where the images of a run in evaluation are not those of a net."""
    augment, evaluated = config.augment, evaluation_augment(config)
    found: dict[str, str] = {}
    if augment.image_size != own.image_size:
        found["augment.image_size"] = f"{augment.image_size} px"
    if config.train.eval_size not in (0, own.image_size):
        found["train.eval_size"] = f"{config.train.eval_size} px in evaluation"
    if own.squash != (evaluated.crop == "none"):
        found["augment.crop"] = f"augment.crop = {shown(augment.crop)}"
    elif not own.squash and abs(evaluated.resize - own.resize(evaluated.image_size)) > 1:  # rounded
        name = "augment.evaluation_resize" if augment.evaluation_resize else "augment.resize"
        found[name] = f"resize {evaluated.resize} at {evaluated.image_size} px"
    if MEAN_STD.get(str(augment.normalize), augment.normalize) != (own.mean, own.std):
        found["augment.normalize"] = f"augment.normalize = {shown(augment.normalize)}"
    if own.interpolation != augment.interpolation:
        found["augment.interpolation"] = f"{augment.interpolation} resize with antialiasing"
    return found


def _triple(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
