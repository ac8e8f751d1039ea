"""The render kernel compared with plain float64, at every size from 1 x 1 on, in guarded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example
from hypothesis import strategies as st

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.rendering.blur import blurred
from slipform.pipelines.rendering.erase import erased
from slipform.pipelines.rendering.render import render
from slipform.pipelines.rendering.taps import BORDERS
from slipform.pipelines.stores import BFLOAT16, FLOAT16, FLOAT32
from tests.examples import examples
from tests.pipelines import folders, reference
from tests.pipelines.rendering.guarded import Guarded

KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}
SLOW = pytest.param(4000, 700, marks=pytest.mark.slow)
LEVEL = 255 / 2  # normalized with "half", this many make one unit


def _render(
    images: list[np.ndarray], plan: Plan, dtype: torch.dtype = torch.float32, at_end: bool = True
) -> np.ndarray:
    """The output of the kernel: float32 [N, S, S, 3]."""
    stored = [Guarded(image.size, np.uint8, at_end) for image in images]
    for memory, image in zip(stored, images, strict=True):
        memory.array[:] = image.ravel()
    kind, size, n = KINDS[dtype], plan.image_size, len(images)
    out = Guarded(n * size * size * 3, np.float32 if kind == FLOAT32 else np.uint16, at_end)
    none32, none16 = np.empty(0, np.float32), np.empty(0, np.uint16)
    render(
        np.array([memory.array.ctypes.data for memory in stored], np.int64),
        np.array([image.shape[0] for image in images], np.int32),
        np.array([image.shape[1] for image in images], np.int32),
        plan.geometry,
        plan.color,
        plan.clip,
        *erased(plan),
        *blurred(plan),
        BORDERS[plan.border],
        plan.cubic,
        plan.axis_aligned,
        size,
        kind,
        out.array if kind == FLOAT32 else none32,
        none16 if kind == FLOAT32 else out.array,
        0,
        n,
    )
    tensor = torch.from_numpy(
        out.array.copy() if kind == FLOAT32 else out.array.copy().view(np.int16)
    )
    return tensor.view(dtype).float().numpy().reshape(n, size, size, 3)


def _plan(images: list[np.ndarray], seed: int = 0, **options: Any) -> Plan:
    spec = Augmentation(**{"image_size": 16} | options).resolved([], [])
    heights, widths = (
        np.array([image.shape[axis] for image in images], np.int32) for axis in (0, 1)
    )
    return draw(spec, np.arange(len(images)), heights, widths, seed, 0)


def _compare(
    images: list[np.ndarray],
    plan: Plan,
    got: np.ndarray,
    levels: float = 0.05,
) -> None:
    assert np.isfinite(got).all()
    gain = (
        np.abs(plan.color[:, :, :3]).sum(2).max() * LEVEL
    )  # a color map may enlarge rounding errors
    for i, image in enumerate(images):
        want, known = reference.picture(image, plan, i)
        # float32 coordinates: half an ulp of a position, on a step of 255 levels
        allowed = (levels + 255 * np.spacing(np.float32(4 * max(image.shape)))) * max(1.0, gain)
        assert np.abs(got[i] - want)[known].max(initial=0) * LEVEL < allowed, (
            i,
            image.shape,
            plan.geometry[i],
            plan.clip[i],
        )


SIDES = st.one_of(st.integers(1, 5), st.integers(1, 70), st.sampled_from([127, 128, 129, 255, 300]))
ALIGNED = st.fixed_dictionaries(
    {
        "crop": st.sampled_from(["center", "random", "random_resized", "none"]),
        "resize": st.sampled_from([0, 1, 7, 16, 18, 40]),
        "border": st.sampled_from(["zero", "reflect", "edge"]),
        "flip": st.sampled_from(["none", "horizontal", "vertical", "both"]),
        "image_size": st.sampled_from([1, 2, 3, 5, 16, 17, 31]),
        "erase": st.sampled_from([0.0, 1.0]),
        "padding": st.sampled_from([0, 1, 4, 40]),
    }
)
ONE_PIXEL = {"crop": "none", "resize": 0, "border": "zero", "flip": "none", "image_size": 1,
             "erase": 0.0, "padding": 0}  # fmt: skip
WARPS = st.fixed_dictionaries(
    {
        "rotation": st.sampled_from([0.0, 10.0, 180.0]),
        "zoom": st.sampled_from([(1.0, 1.0), (0.3, 3.0)]),
        "shear": st.sampled_from([0.0, 30.0]),
        "translate": st.sampled_from([(0.0, 0.0), (0.3, 1.0)]),
        "perspective": st.sampled_from([0.0, 0.5]),
    }
)


def _consistent(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"padding": options["padding"] if options["crop"] == "random" else 0}


@examples(
    80,
    250,
    height=SIDES,
    width=SIDES,
    options=ALIGNED,
    seed=st.integers(0, 99),
    at_end=st.booleans(),
)
@example(height=1, width=1, options=ONE_PIXEL, seed=0, at_end=True)
def test_boxes_of_every_size(  # type: ignore[no-untyped-def]
    height, width, options, seed, at_end
) -> None:
    images = [folders.noise(height, width, k) for k in range(2)]
    plan = _plan(images, seed, **_consistent(options))
    if (
        options["border"] != "zero"
    ):  # the outermost pixels inside define a border: there must be one
        for axis, length in ((0, width), (1, height)):
            assume(np.abs(plan.geometry[:, axis, axis]).max() <= length)
    _compare(images, plan, _render(images, plan, at_end=at_end))


@examples(
    80,
    200,
    side=st.integers(1, 40),
    size=st.sampled_from([1, 2, 3, 16, 31, 32]),
    padding=st.sampled_from([0, 1, 4, 40]),
    border=st.sampled_from(["zero", "reflect", "edge"]),
    flip=st.sampled_from(["none", "horizontal", "vertical", "both"]),
    dtype=st.sampled_from(list(KINDS)),
    seed=st.integers(0, 99),
    at_end=st.booleans(),
)
def test_shifts_by_whole_pixels_are_exact(  # type: ignore[no-untyped-def]
    side, size, padding, border, flip, dtype, seed, at_end
) -> None:
    """Crops of images in their stored size, compared with numpy's padding, slices and flips: no
    pixels are blended."""
    image = folders.noise(side, side + 3)
    plan = _plan(
        [image],
        seed,
        image_size=size,
        resize=0,
        crop="random",
        padding=padding,
        border=border,
        flip=flip,
    )
    (dx, _, x), (_, dy, y), _ = plan.geometry[0].astype(int)
    assert {abs(dx), abs(dy)} == {1}
    left, top = x if dx > 0 else x - size, y if dy > 0 else y - size
    room = padding + size
    mode: Any = {"zero": "constant", "reflect": "reflect", "edge": "edge"}[border]
    padded = np.pad(image, ((room, room), (room, room), (0, 0)), mode=mode)
    want = padded[top + room : top + room + size, left + room : left + room + size][::dy, ::dx]
    normalized = torch.from_numpy(want.astype(np.float32) / LEVEL - 1).to(dtype).float().numpy()
    assert np.abs(_render([image], plan, dtype, at_end)[0] - normalized).max() <= {
        torch.float32: 1e-6
    }.get(dtype, 2**-8)


@examples(
    40,
    120,
    height=SIDES,
    width=SIDES,
    options=ALIGNED,
    warp=WARPS,
    seed=st.integers(0, 99),
    at_end=st.booleans(),
)
def test_warps_of_every_size(  # type: ignore[no-untyped-def]
    height, width, options, warp, seed, at_end
) -> None:
    images = [folders.noise(height, width)]
    plan = _plan(images, seed, **_consistent(options) | warp)
    assume(not plan.axis_aligned)
    got = _render(images, plan, at_end=at_end)
    small = np.array(reference.reduced_shape(plan.geometry[0], plan.image_size, height, width))
    assume(
        (np.abs(small % 1 - 0.5) > 1e-3).all()
    )  # float32 may otherwise round the reduced size differently
    _compare(images, plan, got, levels=0.3)


@pytest.mark.parametrize(("height", "width"), [SLOW, (700, 4000), (4000, 1), (1, 4000), (2000, 2)])
@pytest.mark.parametrize(
    "options", [{}, {"crop": "random_resized", "flip": "both"}, {"rotation": 30.0, "crop": "none"}]
)
def test_large_images(height: int, width: int, options: dict[str, Any]) -> None:
    images = [folders.noise(height, width)]
    plan = _plan(images, image_size=32, resize=36, **options)
    for at_end in (True, False):
        _compare(images, plan, _render(images, plan, at_end=at_end), levels=0.3)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 33])
def test_sixteen_bits_are_the_rounded_float32(size: int) -> None:
    images = [folders.noise(9, 40, k) for k in range(3)]
    for options in ({"crop": "random_resized"}, {"rotation": 20.0}):
        plan = _plan(
            images,
            image_size=size,
            color_jitter=ColorJitter(0.4, 0.4, 0.4, 0.1),
            erase=0.5,
            **options,
        )
        want = torch.from_numpy(_render(images, plan))
        for dtype in (torch.bfloat16, torch.float16):
            np.testing.assert_array_equal(
                _render(images, plan, dtype), want.to(dtype).float().numpy()
            )


def test_a_part_of_a_batch_does_not_change_the_rest() -> None:
    """Threads render parts of one buffer at the same time."""
    images = [folders.noise(20, 20, k) for k in range(4)]
    plan = _plan(images, image_size=5, crop="random_resized")
    out, whole = np.full(4 * 75, 7.0, np.float32), _render(images, plan)
    addresses, sides = (
        np.array([image.ctypes.data for image in images], np.int64),
        np.full(4, 20, np.int32),
    )
    arguments = (
        addresses,
        sides,
        sides,
        plan.geometry,
        plan.color,
        plan.clip,
        *(*erased(plan), *blurred(plan)),
        0,
        False,
        True,
        5,
        FLOAT32,
    )
    render(*arguments, out, np.empty(0, np.uint16), 1, 3)
    rendered = out.reshape(4, 5, 5, 3)
    assert (rendered[[0, 3]] == 7).all()
    np.testing.assert_array_equal(rendered[1:3], whole[1:3])


def test_crops_and_flips_of_whole_pixels_are_exact() -> None:
    """The case of CIFAR: every output is the color map of a stored pixel, up to the last bit of
    float32."""
    images = [folders.noise(32, 32, k) for k in range(50)]
    plan = _plan(images, image_size=32, resize=0, crop="random", padding=4, flip="both")
    got = np.rint((_render(images, plan) + 1) * LEVEL)
    for i, image in enumerate(images):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        g = plan.geometry[i]
        x, y = (int(g[axis, 2] - (32 if g[axis, axis] < 0 else 0)) + 4 for axis in (0, 1))
        want = padded[y : y + 32, x : x + 32]
        want = want[:, ::-1] if g[0, 0] < 0 else want
        np.testing.assert_array_equal(got[i], want[::-1] if g[1, 1] < 0 else want)


@examples(
    60,
    150,
    values=st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=9, max_size=9),
    border=st.sampled_from(["zero", "reflect", "edge"]),
)
def test_no_matrix_reads_beyond_the_image(values: list[float], border: str) -> None:
    """For all numbers: perspective matrices near the horizon have huge ones."""
    images = [folders.noise(7, 5)]
    plan = _plan(images, rotation=1.0, image_size=4, border=border)
    wild = Plan(
        np.array(values, np.float32).reshape(1, 3, 3), plan.color, plan.clip, 4, border, False
    )  # type: ignore[arg-type]
    _render(images, wild)
