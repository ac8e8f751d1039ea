"""Settings of an `Augmentation` that have no effect, because another setting turns them off.

In: an Augmentation. Out: sentences for the user.
"""

from __future__ import annotations

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.toml_text import shown

__all__ = ["unread_settings"]

_DEFAULT = Augmentation()


def unread_settings(spec: Augmentation) -> list[str]:
    """Name the settings that have another value than their default, and that nothing reads.

    `Policy` refuses settings that the chosen policy does not read.

    Args:
        spec: The augmentation of training.

    Returns:
        One sentence for each setting: its value, and what it needs.
    """
    mixed = bool(spec.mixup or spec.cutmix)
    rules = (
        ("scale", spec.crop == "random_resized", 'crop = "random_resized"'),
        ("ratio", spec.crop == "random_resized", 'crop = "random_resized"'),
        ("resize", spec.crop != "none", 'a crop other than "none"'),
        ("evaluation_resize", spec.crop != "none", 'a crop other than "none"'),
        (
            "flip_probability",
            spec.flip in ("horizontal", "vertical", "both"),
            'flip = "horizontal", "vertical" or "both"',
        ),
        ("perspective_probability", bool(spec.perspective), "perspective above 0"),
        (
            "corners",
            not spec.axis_aligned and not spec.policy,
            "rotation, perspective, translate, zoom or shear, and no policy",
        ),
        ("mix_mode", mixed, "mixup or cutmix above 0"),
        ("mix_probability", mixed, "mixup or cutmix above 0"),
        ("switch_probability", bool(spec.mixup and spec.cutmix), "both mixup and cutmix above 0"),
        ("erase_mode", bool(spec.erase), "erase above 0"),
        ("blur", bool(spec.blur), "blur.probability above 0"),
    )
    return [
        f"augment.{name} = {shown(getattr(spec, name))} has no effect: it needs {needs}"
        for name, is_read, needs in rules
        if not is_read and getattr(spec, name) != getattr(_DEFAULT, name)
    ]
