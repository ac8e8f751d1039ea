"""The numbers of the Plan have the distributions of torchvision.transforms.v2, and those of a
sample do not depend on other samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import v2

from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.color_jitter import ColorJitter
from slipform.pipelines.plan.mix_plan import draw_mix
from slipform.pipelines.plan.plan import draw
from tests.pipelines.plan.draws import NUM, PLAIN, alike, blank, draw_plan, theirs_of


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (120, 200, (0.08, 1.0), (3 / 4, 4 / 3)),
        (200, 120, (0.5, 1.0), (1.0, 1.0)),
        (30, 300, (0.3, 1.0), (3 / 4, 4 / 3)),  # nearly every attempt fails: the fallback
    ],
)
def test_random_resized_boxes(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    plan = draw_plan(height=height, width=width, crop="random_resized", scale=scale, ratio=ratio)
    theirs = theirs_of(
        v2.RandomResizedCrop(64, scale, ratio),
        ["left", "top", "width", "height"],
        image=blank(height, width),
    )
    g = plan.geometry.astype(np.float64)
    x, y, w, h = (
        np.round(v, 3) for v in (g[:, 0, 2], g[:, 1, 2], g[:, 0, 0] * 64, g[:, 1, 1] * 64)
    )
    assert (np.stack([x, y, w, h]) % 1 == 0).all()
    for ours, name in ((x, "left"), (y, "top"), (w, "width"), (h, "height")):
        alike(ours, theirs[name])
    alike(w * h, theirs["width"] * theirs["height"])
    alike(x / (width - w + 1), theirs["left"] / (width - theirs["width"] + 1))
    assert min(x.min(), y.min()) >= 0
    assert (x + w).max() <= width + 1e-3
    np.testing.assert_allclose(plan.clip, np.stack([x, y, x + w, y + h], 1), atol=1e-3)


@pytest.mark.parametrize(("size", "padding"), [(64, 0), (64, 8), (120, 4), (128, 8)])
def test_random_crops_with_padding(size: int, padding: int) -> None:
    plan = draw_plan(image_size=size, resize=0, crop="random", padding=padding)
    theirs = theirs_of(v2.RandomCrop(size, padding or None), ["left", "top"])
    for axis, name in ((0, "left"), (1, "top")):
        start = plan.geometry[:, axis, 2] + padding  # torchvision: in the padded image
        assert (start == np.rint(start)).all()
        alike(start, theirs[name])
        assert set(start) == set(theirs[name])


@pytest.mark.parametrize(
    ("height", "width"), [(120, 200), (200, 120), (77, 77), (31, 500), (1, 9), (5, 3)]
)
@pytest.mark.parametrize(("resize", "size"), [(48, 40), (41, 40), (40, 41), (0, 33)])
def test_center_crop_is_resize_then_center_crop(
    height: int, width: int, resize: int, size: int
) -> None:
    """An image whose pixels encode their position shows that torchvision's crop is the box of the
    Plan."""
    plan = draw_plan(1, height, width, image_size=size, resize=resize)
    y, x = torch.meshgrid(torch.arange(height) + 1.0, torch.arange(width) + 1.0, indexing="ij")
    places = v2.CenterCrop(size)(
        (v2.Resize(resize, antialias=False) if resize else v2.Identity())(torch.stack([x, y, y]))
    )
    centers = np.arange(size) + 0.5
    for axis, length in ((0, width), (1, height)):
        ours = plan.geometry[0, axis, axis] * centers + plan.geometry[0, axis, 2]
        line = places[axis].amax(dim=axis).numpy()  # black padding is 0, and every pixel is larger
        inside = (ours > 0) & (ours < length)
        np.testing.assert_array_equal(inside, line > 0)
        # Bilinear interpolation is constant in the outermost half pixels.
        away = inside & (ours > 0.5) & (ours < length - 0.5)
        np.testing.assert_allclose(line[away], ours[away] + 0.5, atol=2e-3 * max(1, length / 100))


def test_squeeze_takes_the_whole_image() -> None:
    plan = draw_plan(1, crop="none")
    np.testing.assert_allclose(
        plan.geometry[0], [[200 / 64, 0, 0], [0, 120 / 64, 0], [0, 0, 1]], rtol=1e-6
    )


@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical", "both"])
def test_flips_have_their_probability_and_mirror_the_same_box(flip: str) -> None:
    plain, plan = (
        draw_plan(crop="random_resized"),
        draw_plan(crop="random_resized", flip=flip, flip_probability=0.3),
    )
    for axis, wanted in ((0, flip in ("horizontal", "both")), (1, flip in ("vertical", "both"))):
        flipped = plan.geometry[:, axis, axis] < 0
        if wanted:
            assert stats.binomtest(int(flipped.sum()), NUM, 0.3).pvalue > 1e-4
        else:
            assert not flipped.any()
        ends = plan.geometry[:, axis, 2] + plan.geometry[:, axis, axis] * 64
        np.testing.assert_allclose(
            np.where(flipped, ends, plan.geometry[:, axis, 2]),
            plain.geometry[:, axis, 2],
            atol=1e-3,
        )
    if flip == "both":
        corner = np.corrcoef(plan.geometry[:, 0, 0] < 0, plan.geometry[:, 1, 1] < 0)[0, 1]
        assert abs(corner) < 0.07


def test_alternating_flip_takes_turns() -> None:
    """airbench: the first flip of an image is random, and then it is flipped in every other
    epoch."""
    epochs = np.stack(
        [draw_plan(epoch=epoch, flip="alternating").geometry[:, 0, 0] < 0 for epoch in range(4)]
    )
    np.testing.assert_array_equal(epochs[0], ~epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    np.testing.assert_array_equal(epochs[1], epochs[3])
    assert stats.binomtest(int(epochs[0].sum()), NUM, 0.5).pvalue > 1e-4
    assert (draw_plan(flip="alternating", seed=1).geometry[:, 0, 0] < 0).tolist() != epochs[
        0
    ].tolist()


def test_random_erasing_boxes() -> None:
    plan = draw_plan(erase=1.0)
    erasing = v2.RandomErasing(p=1.0)
    theirs = theirs_of(erasing, ["i", "j", "h", "w"], image=torch.zeros(3, 64, 64))
    assert plan.erase is not None
    x0, y0, x1, y1 = plan.erase.T
    for ours, name in ((x0, "j"), (y0, "i"), (x1 - x0, "w"), (y1 - y0, "h")):
        alike(ours, theirs[name])
    rare = draw_plan(erase=0.25).erase
    assert rare is not None
    assert stats.binomtest(int((rare[:, 2] > rare[:, 0]).sum()), NUM, 0.25).pvalue > 1e-4
    assert draw_plan().erase is None


@given(
    index=st.integers(0, 2**40),
    others=st.lists(st.integers(0, 2**40), max_size=5),
    at=st.integers(0, 5),
    epoch=st.integers(0, 99),
)
def test_a_sample_does_not_depend_on_its_neighbors(
    index: int, others: list[int], at: int, epoch: int
) -> None:
    spec = Augmentation(
        image_size=32,
        crop="random_resized",
        flip="both",
        rotation=10,
        perspective=0.3,
        grayscale=0.2,
        erase=0.5,
        color_jitter=ColorJitter(0.4, 0.4, 0.4, 0.1),
        normalize=PLAIN,
    )
    batch = [*others[:at], index, *others[at:]]
    sizes = np.array([40 + i % 17 for i in batch], np.int32)
    alone = draw(
        spec, np.array([index]), sizes[:1] * 0 + 40 + index % 17, sizes[:1] * 0 + 50, 3, epoch
    )
    together = draw(spec, np.array(batch), sizes, np.full(len(batch), 50, np.int32), 3, epoch)
    i = min(at, len(others))
    for name in ("geometry", "color", "clip", "erase"):
        np.testing.assert_array_equal(getattr(together, name)[i], getattr(alone, name)[0])
    later = draw(spec, np.array([index]), sizes[:1], sizes[:1], 3, epoch + 1)
    assert not np.array_equal(later.color, alone.color)


def test_adding_an_augmentation_does_not_change_the_others() -> None:
    base = draw_plan(crop="random_resized", flip="horizontal")
    more = draw_plan(
        crop="random_resized",
        flip="horizontal",
        color_jitter=ColorJitter(0.5),
        erase=1.0,
        grayscale=0.5,
    )
    np.testing.assert_array_equal(base.geometry, more.geometry)


def test_mixing_weights_and_boxes() -> None:
    """Weights have the distribution Beta(alpha, alpha). The area of CutMix boxes follows from the
    weight, as in torchvision. With both settings, each batch takes one of them."""
    mixup = Augmentation(image_size=64, mixup=0.4)
    places = [(epoch, batch) for epoch in range(20) for batch in range(50)]
    weights = np.array([draw_mix(mixup, 8, 0, *place).weight[0] for place in places])  # type: ignore[union-attr]
    assert stats.kstest(weights, stats.beta(0.4, 0.4).cdf).pvalue > 1e-4
    cutmix = Augmentation(image_size=64, cutmix=1.0)
    plans = [draw_mix(cutmix, 8, 0, 0, batch) for batch in range(1000)]
    boxes = np.array([plan.box[0] for plan in plans])  # type: ignore[union-attr]
    torch.manual_seed(0)
    theirs = v2.CutMix(num_classes=4)
    drawn = [theirs.make_params([torch.zeros(2, 3, 64, 64)]) for _ in range(1000)]
    alike(boxes[:, 0], np.array([d["box"][0] for d in drawn]))
    alike(boxes[:, 3] - boxes[:, 1], np.array([d["box"][3] - d["box"][1] for d in drawn]))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    np.testing.assert_allclose([plan.weight[0] for plan in plans], 1 - areas / 64**2)  # type: ignore[union-attr]
    both = [
        draw_mix(Augmentation(image_size=64, mixup=0.4, cutmix=1.0), 8, 0, 0, batch)
        for batch in range(1000)
    ]
    assert stats.binomtest(sum(not plan.box.any() for plan in both), 1000, 0.5).pvalue > 1e-4  # type: ignore[union-attr]
    assert draw_mix(Augmentation(), 8, 0, 0, 0) is None


def test_lists_and_arrays_are_accepted_as_tuples() -> None:
    """Settings from JSON or numpy."""
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    tuples = Augmentation(crop="random_resized", scale=(0.2, 0.9), normalize=(mean, std))
    lists = Augmentation(crop="random_resized", scale=[0.2, 0.9], normalize=[list(mean), list(std)])
    arrays = Augmentation(
        crop="random_resized", scale=np.array([0.2, 0.9]), normalize=np.array([mean, std])
    )
    sides = np.full(4, 64, np.int32)
    plans = [draw(spec, np.arange(4), sides, sides, 0, 0) for spec in (tuples, lists, arrays)]
    for plan in plans[1:]:
        np.testing.assert_array_equal(plan.geometry, plans[0].geometry)
        np.testing.assert_array_equal(plan.color, plans[0].color)
