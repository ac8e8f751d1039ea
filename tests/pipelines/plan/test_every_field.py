"""Every field of an Augmentation is drawn on GPUs as on CPU cores, or GPUs refuse it."""

from dataclasses import fields
from typing import Any

from slipform.pipelines.plan.augmentation import Augmentation
from tests.gpu.test_draw import EXACT, ROUNDED

# Cases of tests/gpu have other names for these fields.
NAMES = {"jitter": "color_jitter"}
# Fields that the kernels do not draw, or that are in each case.
OTHERS = {
    "normalize",  # each case
    "perspective_probability",  # its default, in each case with a perspective
    "evaluation_resize",  # only `evaluation` reads it
    "own",  # the host draws; see `device_batches`
    # Of a batch: `draw_mix`.
    *("mixup", "cutmix", "mix_mode", "mix_probability", "switch_probability"),
}
# Fields that only CPU cores render, each with a value.
ON_CORES: dict[str, Any] = {"interpolation": "bicubic"}


def test_each_field_has_a_case_or_is_refused_by_gpus() -> None:
    drawn = {NAMES.get(key, key) for case in (EXACT | ROUNDED).values() for key in case}
    missing = {field.name for field in fields(Augmentation)} - drawn - OTHERS - ON_CORES.keys()
    assert not missing, (
        f"{sorted(missing)}: add a case to tests/gpu/test_draw.py, or name the field in"
        " Augmentation.on_cores and in ON_CORES (pipelines/plan/adding.md)"
    )


def test_gpus_refuse_fields_of_cpu_cores() -> None:
    for name, value in ON_CORES.items():
        assert Augmentation(**{name: value}).on_cores.startswith(f"augment.{name} = ")
