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
SIZES = dict.fromkeys(AMOUNTS, (12,)) | {"Sharpness": (1, 2, 3, 17), "Equalize": (1, 33)}


def _check(interpreter: Warm, cases: list[list[Any]], *words: str) -> None:
    script = Path(__file__).with_name("operated.py")
    done = interpreter.run_file(script, json.dumps(cases), *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [(), pytest.param(("all",), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", AMOUNTS)
def test_an_operation_gives_the_levels_of_the_cpu_kernel(
    name: str, words: tuple[str, ...], interpreter: Warm
) -> None:
    chains = [[[OPERATIONS.index(name), amount]] for amount in AMOUNTS[name]]
    sizes = SIZES[name] if SIZES[name] != (12,) or not words else (24,)
    _check(interpreter, [[size, *chains] for size in sizes], *words)


@pytest.mark.parametrize("words", [(), pytest.param(("all",), marks=pytest.mark.slow)])
def test_operations_one_after_another(words: tuple[str, ...], interpreter: Warm) -> None:
    chains = [[[OPERATIONS.index(name), amount] for name, amount in chain] for chain in CHAINS]
    _check(interpreter, [[24 if words else 12, chain] for chain in chains], *words)


def test_every_operation_on_pixels_is_tested() -> None:
    on_positions = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
    assert set(AMOUNTS) == set(OPERATIONS) - on_positions
