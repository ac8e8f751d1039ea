"""The operations of a policy by the GPU kernels, in Triton's interpreter, compared with the kernels
for CPU cores: the same levels, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.plan.operations import OPERATIONS
from tests.warm import Warm

# Of each operation the lowest, the highest and another amount, with both signs.
AMOUNTS: dict[str, list[float]] = {
    "Identity": [0.0],
    "Brightness": [0.27, -0.9, 0.99],
    "Color": [0.27, -0.9, 0.99],
    "Contrast": [0.27, -0.9, 0.99],
    "Sharpness": [0.27, -0.9],
    "Posterize": [8.0, 4.0, 0.0],
    "Solarize": [1.0, 0.7, 0.0],
    "AutoContrast": [0.0],
    "Equalize": [0.0],
    "Invert": [0.0],
}
CHAINS = [
    [["Equalize", 0.0], ["Contrast", 0.9], ["Sharpness", -0.9]],
    [["Color", 0.9], ["Equalize", 0.0]],
]
SIZES = dict.fromkeys(AMOUNTS, (24,)) | {"Sharpness": (1, 2, 3, 17), "Equalize": (1, 33)}
SMALL = dict.fromkeys(AMOUNTS, (12,)) | {"Sharpness": (2, 17), "Equalize": (17,)}
STATISTICS = ("Contrast", "AutoContrast", "Equalize")  # these depend on what the picture shows
TABLES = ("Identity", "Posterize", "Invert")  # of levels, as for Solarize
CASES = [
    *((name, False) for name in AMOUNTS if name not in TABLES),
    *(pytest.param(name, False, marks=pytest.mark.slow) for name in TABLES),
    *(pytest.param(name, True, marks=pytest.mark.slow) for name in AMOUNTS),
]


def _check(interpreter: Warm, cases: list[list[Any]], which: str) -> None:
    script = Path(__file__).with_name("operated.py")
    done = interpreter.run_file(script, json.dumps(cases), which)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "everything"), CASES)
def test_an_operation_gives_the_levels_of_the_cpu_kernel(
    name: str, everything: bool, interpreter: Warm
) -> None:
    amounts = AMOUNTS[name] if everything else AMOUNTS[name][:2]
    chains = [[[OPERATIONS.index(name), amount]] for amount in amounts]
    sizes = (SIZES if everything else SMALL)[name]
    which = "all" if everything else "three" if name in STATISTICS else "two"
    _check(interpreter, [[size, *chains] for size in sizes], which)


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_operations_one_after_another(everything: bool, interpreter: Warm) -> None:
    chains = [[[OPERATIONS.index(name), amount] for name, amount in chain] for chain in CHAINS]
    cases = [[24 if everything else 12, chain] for chain in chains]
    _check(interpreter, cases, "all" if everything else "two")


def test_every_operation_on_pixels_is_tested() -> None:
    on_positions = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
    assert set(AMOUNTS) == set(OPERATIONS) - on_positions
