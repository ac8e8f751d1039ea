"""The kernels compile for an A100 and an H100 on a machine without a GPU. They compile without a
warning, fit into the registers, do not spill, and have no more instructions than stated here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines.plan.device_chains import switches
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.plan.policy_space import space_of

KEYS = ("arch", "dtype", "border", "aligned", "erase", "size")
QUICK = [(90, "bf16", 0, True, False, 224), (90, "bf16", 1, False, True, 224)]
ALL = [
    *QUICK,
    *((80, "bf16", border, aligned, True, 224) for border in (0, 2) for aligned in (True, False)),
    *(
        (90, dtype, 1, aligned, False, 96)
        for dtype in ("fp16", "fp32")
        for aligned in (True, False)
    ),
    (90, "bf16", 1, True, False, 32),
    (90, "bf16", 0, True, False, 33),  # an odd size: pixels are stored one by one
    (80, "fp16", 2, False, False, 1),
]
PIXELS = {True: 8, False: 2}  # pixels of a thread in a tile, by `aligned`
# By `aligned`: registers, instructions of the innermost loop for each tap and pixel, and all
# instructions for each pixel. A multiprocessor has 65,536 registers: for three programs of 128
# threads, or two of 256.
LIMITS = {True: (168, 16, 380), False: (128, 28, 580)}


def _compile(cases: list[tuple[Any, ...]], python: str = sys.executable) -> list[dict[str, Any]]:
    return _reports([dict(zip(KEYS, case, strict=True)) for case in cases], python)


def _reports(cases: list[dict[str, Any]], python: str = sys.executable) -> list[dict[str, Any]]:
    """Run `compiled.py` in its own process. Every warning is an error."""
    script = Path(__file__).with_name("compiled.py")
    arguments = json.dumps(cases)
    command = [python, "-W", "error", str(script), arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _check(case: tuple[Any, ...], found: dict[str, Any]) -> None:
    _, _, _, aligned, _, size = case
    names = Counter(found["names"])
    registers, per_tap, total = LIMITS[aligned]
    assert found["lanes"] == ["[32]"]  # the threads of a warp read neighbors in a row
    assert found["registers"] <= registers
    # A few numbers of the loop over the tiles may be outside the registers.
    assert found["stack"] <= 48
    for loop in sorted(found["loops"], key=len)[:-1]:
        assert not [name for name in loop if name.startswith(("LDL", "STL"))]
    assert found["shared"] == 0  # threads exchange nothing
    if size < 32:
        return
    pixels = PIXELS[aligned]
    # Stored pixels are loaded as words, four for the four taps of a group: no byte is loaded alone.
    assert not [name for name in names if name.startswith("LDG.E.U8")]
    inner = min(found["loops"], key=len)
    assert inner.count("LDG.E") == 4 * pixels
    assert len(inner) <= 4 * per_tap * pixels
    assert len(found["names"]) <= total * pixels
    stores = sum(count for name, count in names.items() if name.startswith("STG"))
    assert stores == (3 * pixels // 2 if size % 2 == 0 else 3 * pixels)


def test_two_kernels_fit() -> None:
    for case, found in zip(QUICK, _compile(QUICK), strict=True):
        _check(case, found)


SWITCHES = ("CROP", "FLIP", "WARP", "CUT", "POLICY", "JITTER", "ERASE", "NOISE")
EXACT_DRAW = {"arch": 90, **dict(zip(SWITCHES, (1, 4, *[False] * 6), strict=True))}
DRAWS = [
    {"arch": arch, **dict(zip(SWITCHES, switches, strict=True))}
    for arch in (80, 90)
    for switches in (
        (0, 0, *[False] * 6),
        (1, 1, False, True, True, False, False, False),
        (2, 1, False, False, False, True, True, True),
        (3, 3, True, True, False, False, False, False),
        (2, 4, *[True] * 6),
    )
]
CHAINS = [
    {"arch": 90, **switches(space_of(Policy(**options), 224))}
    for options in (
        {"name": "rand_augment"},
        {"name": "auto_augment_imagenet"},
        {"name": "augmix", "alpha": 0.5},
    )
]


_PICTURES = [
    {"kernel_name": name, "CHAINS": chains, "DEPTH": depth, "ERASE": True}
    for name in ("sample", "find_tables", "operate", "mix")
    for chains, depth in ((1, 2), (4, 3))
] + [{"kernel_name": name, "RADIUS": 11, "ERASE": True} for name in ("blur_columns", "blur_rows")]
PICTURES = [
    {"arch": arch, "dtype": dtype, "size": size, **one}
    for arch, dtype, size in ((80, "bf16", 224), (90, "fp16", 224), (90, "fp32", 33))
    for one in _PICTURES
]


def _check_picture(case: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["registers"] <= 128
    assert found["stack"] == 0
    assert found["shared"] <= 4096
    assert not [name for name in found["names"] if name.startswith(("LDL", "STL"))]
    assert set(found["lanes"]) <= {"[32]"}
    if case["kernel_name"] in ("find_tables", "operate", "mix"):
        # As on CPU cores, bit for bit: each product, sum and quotient is rounded alone.
        assert found["fused"] == found["approximate"] == 0


def test_a_kernel_for_policies_fits_and_fuses_nothing() -> None:
    case = next(case for case in PICTURES if case["kernel_name"] == "mix")
    _check_picture(case, _reports([case])[0])


@pytest.mark.slow
def test_every_kernel_for_policies_and_blurs_fits() -> None:
    for case, found in zip(PICTURES, _reports(PICTURES), strict=True):
        _check_picture(case, found)
    (found,) = _reports([{"arch": 90}])  # which draws the deviations of blurs
    _check_draw({"WARP": False, "JITTER": False}, found)
    assert found["fused"] == 0


def _check_draw(case: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["registers"] <= 128
    assert found["shared"] <= (16 if "CHAINS" in case else 0)  # of a reduction over the threads
    # Quotients and roots are rounded as IEEE 754 says; log and exp of AugMix's weights are not.
    assert found["approximate"] == 0 or case.get("MIXED")
    # CUDA's sin and cos keep digits of 2 / pi there, for large angles, which do not occur.
    turns = case["WARP"] or case["JITTER"]
    assert found["stack"] <= (48 if turns else 0)
    local = [name for name in found["names"] if name.startswith(("LDL", "STL"))]
    assert turns or not local


def test_a_drawing_kernel_fits_and_fuses_nothing() -> None:
    """A fused product and sum is rounded once, not twice. The Plan would differ from that on CPU
    cores."""
    (found,) = _reports([EXACT_DRAW])
    _check_draw(EXACT_DRAW, found)
    assert found["fused"] == 0


@pytest.mark.slow
def test_every_drawing_kernel_fits() -> None:
    for case, found in zip(DRAWS, _reports(DRAWS), strict=True):
        _check_draw(case, found)
    for case, found in zip(CHAINS, _reports(CHAINS), strict=True):
        _check_draw(case | {"WARP": True}, found)


@pytest.mark.slow
def test_every_kernel_fits() -> None:
    for case, found in zip(ALL, _compile(ALL), strict=True):
        _check(case, found)


@pytest.mark.slow
def test_an_older_triton_compiles_them(tmp_path: Path) -> None:
    """Triton 3.6, the version of torch 2.11, in its own venv."""
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    install = [python, "-m", "pip", "install", "-q", "triton==3.6.0", "setuptools"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Triton 3.6 cannot be installed here: {done.stderr.strip()[-200:]}")
    for case, found in zip(ALL, _compile(ALL, str(python)), strict=True):
        _check(case, found)
    for draw, found in zip(DRAWS, _reports(DRAWS, str(python)), strict=True):
        _check_draw(draw, found)
