"""timm's nets: "timm/NAME", or "timm/NAME.TAG" for the weights with that tag.

In: a name of timm.list_models(). Out: a builder as `slipform.models.spec.net` describes it: images
[N, 3, S, S] -> logits [N, classes]. timm is imported only where a name begins with "timm/".
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from functools import cache
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from slipform.models.heads import limit_head
from slipform.models.spec import InputSpec, Net
from slipform.models.timm_weights import converted, pretrained
from slipform.pipelines.errors import ConfigError

__all__ = ["PREFIX", "describe", "find", "is_installed", "names", "prefixed"]

PREFIX = "timm/"
_Rate = Annotated[float, Field(ge=0, lt=1)]
# Arguments of timm's classes, where a class has them.
_OPTIONS: dict[str, Any] = {
    "drop_rate": _Rate,
    "drop_path_rate": _Rate,
    "proj_drop_rate": _Rate,
    "attn_drop_rate": _Rate,
    "pos_drop_rate": _Rate,
    "patch_drop_rate": _Rate,
    "drop_block_rate": _Rate,
    "global_pool": str,
    "dynamic_img_size": bool,
    "dynamic_img_pad": bool,
}


def is_installed() -> bool:
    """Whether timm is installed. It is not imported."""
    return importlib.util.find_spec("timm") is not None


@cache
def names() -> tuple[str, ...]:
    """The names of timm's nets, each with "timm/" before it; none where timm is not installed."""
    if not is_installed():
        return ()
    import timm

    return tuple(PREFIX + name for name in timm.list_models())


def prefixed(name: str) -> tuple[str, ...]:
    """ "timm/NAME" if timm has the net of a name, else nothing.

    Args:
        name: Any name; of NAME, NAME.TAG or "hf-hub:timm/NAME.TAG", NAME is looked for.
    """
    net = name.rpartition("/")[2].partition(".")[0]
    return tuple(one for one in names() if one == PREFIX + net)


@cache
def describe(name: str) -> str:
    """The image size of a net, and the tags of its weights.

    Args:
        name: One of `names()`.
    """
    own, tags = _input(name), _tags(name.removeprefix(PREFIX))
    return f"timm, {own.image_size} px; {', '.join(tags) or 'no weights'}"


def find(name: str) -> Net:
    """The builder of a net of timm.

    Args:
        name: "timm/NAME" or "timm/NAME.TAG".

    Returns:
        The builder. Its options are timm's rates of dropout and drop path, global_pool and those of
        the image size, as far as the net's class takes them.

    Raises:
        ConfigError: timm is not installed, or it has no such net or tag.
    """
    _check(name)
    timm_name = name.removeprefix(PREFIX)
    settings = _settings(timm_name)

    def create(*, image_size: int, **arguments: Any) -> nn.Module:
        import timm

        size = {"img_size": (image_size, image_size)} if "img_size" in settings else {}
        model: nn.Module = timm.create_model(timm_name, **size, **arguments)
        return model

    def build(*, num_classes: int, image_size: int, **options: Any) -> nn.Module:
        model = create(num_classes=num_classes, image_size=image_size, **options)
        limit_head(model)
        return model

    def read(
        tensors: dict[str, torch.Tensor] | None, **arguments: Any
    ) -> tuple[str, dict[str, torch.Tensor]] | None:
        if tensors is None:
            return pretrained(timm_name, create, **arguments)
        return converted(timm_name, create, tensors, **arguments)

    options = {key: kind for key, kind in _OPTIONS.items() if key in settings}
    return Net(build, options, lambda _: _input(name), read)


def _check(name: str) -> None:
    if not is_installed():
        raise ConfigError(
            f'model.name = "{name}" needs timm. Install it: pip install "slipform[timm]"'
        )
    import timm

    net, _, tag = name.removeprefix(PREFIX).partition(".")
    if not timm.is_model(net):
        # "hf-hub:timm/NAME" is how timm and the pages of its weights write the same names.
        near = difflib.get_close_matches(
            net.rpartition("/")[2], timm.list_models(), n=5, cutoff=0.5
        )
        listed = ", ".join(PREFIX + one for one in near) or "nothing"
        raise ConfigError(
            f'there is no timm net "{net}". Similar names: {listed}. All: slipform list nets timm/'
        )
    if tag and tag not in _tags(net):
        listed = ", ".join(_tags(net)) or "none"
        raise ConfigError(
            f'timm has no weights with the tag "{tag}" for "{net}". Its tags: {listed}.'
        )


def _tags(net: str) -> list[str]:
    """The tags of the weights of a net, the default one first."""
    import timm
    from timm.models import get_pretrained_cfg

    default = get_pretrained_cfg(net).tag
    found = timm.list_models(net, pretrained=True, include_tags=True)
    tags = [name.partition(".")[2] for name in found]
    return sorted(tags, key=lambda tag: tag != default)


@cache
def _settings(timm_name: str) -> frozenset[str]:
    """The names of the arguments that the class of a net takes."""
    import timm

    with torch.device("meta"):
        model = timm.create_model(timm_name)
    classes = [one for one in type(model).__mro__ if "__init__" in one.__dict__]
    return frozenset(name for one in classes for name in inspect.signature(one).parameters)


def _input(name: str) -> InputSpec:
    from timm.data import resolve_data_config
    from timm.models import get_pretrained_cfg

    found = resolve_data_config(
        pretrained_cfg=get_pretrained_cfg(name.removeprefix(PREFIX)).to_dict()
    )
    return InputSpec(
        image_size=max(found["input_size"][1:]),
        crop_share=found["crop_pct"],
        mean=found["mean"],
        std=found["std"],
        interpolation=found["interpolation"],
        squash=found["crop_mode"] == "squash",
    )
