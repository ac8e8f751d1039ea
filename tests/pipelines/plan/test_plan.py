"""The Plan's numbers: distributed as torchvision.transforms.v2 draws them, each sample's its own,
never its neighbors'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomPerspective, v2
from torchvision.transforms.v2 import functional as F

from slipform.pipelines.plan.augmentation import Augmentation, ColorJitter
from slipform.pipelines.plan.plan import Plan, draw, draw_mix

NUM = 4000
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def _draw(
    n: int = NUM,
    height: int = 120,
    width: int = 200,
    seed: int = 0,
    epoch: int = 0,
    **options: object,
) -> Plan:
    spec = Augmentation(**{"image_size": 64, "normalize": PLAIN} | options)  # type: ignore[arg-type]
    return draw(
        spec, np.arange(n), np.full(n, height, np.int32), np.full(n, width, np.int32), seed, epoch
    )


def _alike(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert len(ours) > 500
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-4


def _image(height: int = 120, width: int = 200) -> torch.Tensor:
    return torch.zeros(3, height, width, dtype=torch.uint8)


def _theirs(
    transform: v2.Transform, names: list[str], num: int = NUM, image: torch.Tensor | None = None
) -> dict[str, np.ndarray]:
    """The parameters that a transform of torchvision draws, `num` times."""
    torch.manual_seed(0)
    image = _image() if image is None else image
    rows = [transform.make_params([image]) for _ in range(num)]
    return {name: np.array([row[name] for row in rows], np.float64) for name in names}


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (120, 200, (0.08, 1.0), (3 / 4, 4 / 3)),
        (200, 120, (0.5, 1.0), (1.0, 1.0)),
        (30, 300, (0.3, 1.0), (3 / 4, 4 / 3)),  # nearly every try fails: the fallback
    ],
)
def test_random_resized_boxes(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    plan = _draw(height=height, width=width, crop="random_resized", scale=scale, ratio=ratio)
    theirs = _theirs(
        v2.RandomResizedCrop(64, scale, ratio),
        ["left", "top", "width", "height"],
        image=_image(height, width),
    )
    g = plan.geometry.astype(np.float64)
    x, y, w, h = (
        np.round(v, 3) for v in (g[:, 0, 2], g[:, 1, 2], g[:, 0, 0] * 64, g[:, 1, 1] * 64)
    )
    assert (np.stack([x, y, w, h]) % 1 == 0).all()
    for ours, name in ((x, "left"), (y, "top"), (w, "width"), (h, "height")):
        _alike(ours, theirs[name])
    _alike(w * h, theirs["width"] * theirs["height"])
    _alike(x / (width - w + 1), theirs["left"] / (width - theirs["width"] + 1))
    assert min(x.min(), y.min()) >= 0
    assert (x + w).max() <= width + 1e-3
    np.testing.assert_allclose(plan.clip, np.stack([x, y, x + w, y + h], 1), atol=1e-3)


@pytest.mark.parametrize(("size", "padding"), [(64, 0), (64, 8), (120, 4), (128, 8)])
def test_random_crops_with_padding(size: int, padding: int) -> None:
    plan = _draw(image_size=size, resize=0, crop="random", padding=padding)
    theirs = _theirs(v2.RandomCrop(size, padding or None), ["left", "top"])
    for axis, name in ((0, "left"), (1, "top")):
        start = plan.geometry[:, axis, 2] + padding  # torchvision counts in the padded image
        assert (start == np.rint(start)).all()
        _alike(start, theirs[name])
        assert set(start) == set(theirs[name])


@pytest.mark.parametrize(
    ("height", "width"), [(120, 200), (200, 120), (77, 77), (31, 500), (1, 9), (5, 3)]
)
@pytest.mark.parametrize(("resize", "size"), [(48, 40), (41, 40), (40, 41), (0, 33)])
def test_center_crop_is_resize_then_center_crop(
    height: int, width: int, resize: int, size: int
) -> None:
    """On an image whose pixels name their place: where torchvision's chain puts the crop is where
    the Plan's box lies."""
    plan = _draw(1, height, width, image_size=size, resize=resize)
    y, x = torch.meshgrid(torch.arange(height) + 1.0, torch.arange(width) + 1.0, indexing="ij")
    places = v2.CenterCrop(size)(
        (v2.Resize(resize, antialias=False) if resize else v2.Identity())(torch.stack([x, y, y]))
    )
    centers = np.arange(size) + 0.5
    for axis, length in ((0, width), (1, height)):
        ours = plan.geometry[0, axis, axis] * centers + plan.geometry[0, axis, 2]
        line = places[axis].amax(dim=axis).numpy()  # black padding is 0, every pixel more
        inside = (ours > 0) & (ours < length)
        np.testing.assert_array_equal(inside, line > 0)
        away = (
            inside & (ours > 0.5) & (ours < length - 0.5)
        )  # in the outermost half pixels bilinear is flat
        np.testing.assert_allclose(line[away], ours[away] + 0.5, atol=2e-3 * max(1, length / 100))


def test_squeeze_takes_the_whole_image() -> None:
    plan = _draw(1, crop="none")
    np.testing.assert_allclose(
        plan.geometry[0], [[200 / 64, 0, 0], [0, 120 / 64, 0], [0, 0, 1]], rtol=1e-6
    )


@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical", "both"])
def test_flips_have_their_probability_and_mirror_the_same_box(flip: str) -> None:
    plain, plan = (
        _draw(crop="random_resized"),
        _draw(crop="random_resized", flip=flip, flip_probability=0.3),
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
    """airbench: an image's first flip is by chance, from then on it is flipped in every other
    epoch."""
    epochs = np.stack(
        [_draw(epoch=epoch, flip="alternating").geometry[:, 0, 0] < 0 for epoch in range(4)]
    )
    np.testing.assert_array_equal(epochs[0], ~epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    np.testing.assert_array_equal(epochs[1], epochs[3])
    assert stats.binomtest(int(epochs[0].sum()), NUM, 0.5).pvalue > 1e-4
    assert (_draw(flip="alternating", seed=1).geometry[:, 0, 0] < 0).tolist() != epochs[0].tolist()


def _turned(plan: Plan, box: tuple[float, float]) -> np.ndarray:
    """The linear part of output -> crop, in output pixels: the box's scale taken off."""
    return plan.geometry[:, :2, :2] / np.array(box)[:, None]


def test_rotation_zoom_shear_and_translation() -> None:
    """RandomAffine's angle, scale, shear and translations, read back from the matrices."""
    options = {
        "crop": "none",
        "rotation": 30.0,
        "zoom": (0.5, 1.6),
        "shear": 20.0,
        "translate": (0.2, 0.1),
    }
    plan = _draw(height=64, width=64, **options)
    affine = v2.RandomAffine(30, translate=(0.2, 0.1), scale=(0.5, 1.6), shear=20)
    theirs = _theirs(affine, ["angle", "translate", "scale", "shear"], image=_image(64, 64))
    forward = np.linalg.inv(
        plan.geometry[:, :2, :2].astype(np.float64)
    )  # crop -> output: rotation, shear, zoom
    angle = np.rad2deg(np.arctan2(forward[:, 1, 0], forward[:, 0, 0]))
    zoom = np.sqrt(np.linalg.det(forward))
    unrotated = np.linalg.inv(_rotation(angle)) @ forward / zoom[:, None, None]
    np.testing.assert_allclose(unrotated[:, [0, 1], [0, 1]], 1, atol=1e-4)
    np.testing.assert_allclose(unrotated[:, 1, 0], 0, atol=1e-4)
    middle = np.einsum(
        "nij,nj->ni", forward, 32 - plan.geometry[:, :2, 2].astype(np.float64)
    )  # where the center goes
    _alike(angle, theirs["angle"])
    _alike(zoom, theirs["scale"])
    _alike(np.rad2deg(np.arctan(unrotated[:, 0, 1])), theirs["shear"][:, 0])
    for axis in range(2):
        moved = middle[:, axis] - 32
        np.testing.assert_allclose(moved, np.rint(moved), atol=1e-2)
        _alike(np.rint(moved), theirs["translate"][:, axis])


def _rotation(degrees: np.ndarray) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.stack([np.cos(a), -np.sin(a), np.sin(a), np.cos(a)], -1).reshape(-1, 2, 2)


def test_affine_turns_about_the_crop_center_in_output_pixels() -> None:
    """Not about the stored image's, and a rotation stays one where the box is squeezed."""
    plan = _draw(height=50, width=190, crop="none", rotation=45.0)
    np.testing.assert_allclose(
        plan.geometry @ np.array([32, 32, 1], np.float32), np.tile([95, 25, 1], (NUM, 1)), rtol=1e-4
    )
    linear = _turned(plan, (190 / 64, 50 / 64)).astype(np.float64)
    np.testing.assert_allclose(
        linear @ linear.transpose(0, 2, 1), np.tile(np.eye(2), (NUM, 1, 1)), atol=1e-5
    )


def test_the_affine_matrix_is_torchvisions() -> None:
    """The same angle, zoom and translation given to torchvision's affine move an image alike."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:30, 10:50] = 255
    options = {"crop": "none", "rotation": 40.0, "zoom": (0.7, 1.4), "translate": (0.2, 0.2)}
    plan = _draw(12, 64, 64, **options)
    for g in plan.geometry.astype(np.float64):
        forward = np.linalg.inv(g[:2, :2])
        angle, zoom = (
            np.rad2deg(np.arctan2(forward[1, 0], forward[0, 0])),
            np.sqrt(np.linalg.det(forward)),
        )
        dx, dy = forward @ (32 - g[:2, 2]) - 32
        moved = F.affine(
            torch.from_numpy(image).permute(2, 0, 1).float(),
            angle,
            [round(dx), round(dy)],
            zoom,
            [0.0, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        y, x = np.mgrid[:64, :64] + 0.5
        sx, sy = g[0, 0] * x + g[0, 1] * y + g[0, 2], g[1, 0] * x + g[1, 1] * y + g[1, 2]
        deep = (sx > 11) & (sx < 49) & (sy > 9) & (sy < 29)
        far = (sx < 9) | (sx > 51) | (sy < 7) | (sy > 31)
        assert moved[0].numpy()[deep].min() > 254
        assert moved[0].numpy()[far].max() < 1


@pytest.mark.parametrize("distortion", [0.2, 0.5, 0.9])
def test_perspective_moves_corners_as_torchvision(distortion: float) -> None:
    """The crop's corners go where RandomPerspective's end points lie (counted there in pixels, here
    in their edges)."""
    plan = _draw(
        height=64, width=64, crop="none", perspective=distortion, perspective_probability=1.0
    )
    torch.manual_seed(0)
    ends = np.array(
        [RandomPerspective.get_params(64, 64, distortion)[1] for _ in range(NUM)], np.float64
    )
    forward = np.linalg.inv(plan.geometry.astype(np.float64))
    for k, corner in enumerate([(0, 0), (64, 0), (64, 64), (0, 64)]):
        there = forward @ (*corner, 1.0)
        there = there[:, :2] / there[:, 2:]
        np.testing.assert_allclose(there, np.rint(there), atol=0.1)
        for axis in range(2):
            moved = np.abs(np.rint(there[:, axis]) - corner[axis])
            edge = 63 if corner[axis] else 0
            _alike(moved, np.abs(ends[:, k, axis] - edge))


@pytest.mark.parametrize("distortion", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_perspective_stays_finite_and_in_sight(distortion: float, size: int) -> None:
    """Strong distortion makes quadrilaterals that no homography undoes (corners on a line): those
    samples keep their shape."""
    plan = _draw(20_000, image_size=size, perspective=distortion, perspective_probability=1.0)
    assert np.isfinite(plan.geometry).all()
    if distortion < 1:  # beyond, a quadrilateral may fold over itself
        # The crop's own center is seen: where it goes in the output, the depth is positive.
        g = plan.geometry.astype(np.float64)
        box = _draw(1, image_size=size).geometry[0].astype(np.float64)
        middle = np.linalg.solve(g, np.tile(box @ (size / 2, size / 2, 1), (len(g), 1))[..., None])[
            ..., 0
        ]
        assert (np.einsum("nk,nk->n", g[:, 2], middle / middle[:, 2:]) > 0).mean() > 0.999


def test_perspective_has_its_probability() -> None:
    plan = _draw(crop="none", height=64, width=64, perspective=0.5, perspective_probability=0.3)
    kept = (np.abs(plan.geometry - np.eye(3)) < 1e-6).all((1, 2)).sum()
    assert stats.binomtest(int(NUM - kept), NUM, 0.3).pvalue > 1e-3


def test_random_erasing_boxes() -> None:
    plan = _draw(erase=1.0)
    erasing = v2.RandomErasing(p=1.0)
    theirs = _theirs(erasing, ["i", "j", "h", "w"], image=torch.zeros(3, 64, 64))
    assert plan.erase is not None
    x0, y0, x1, y1 = plan.erase.T
    for ours, name in ((x0, "j"), (y0, "i"), (x1 - x0, "w"), (y1 - y0, "h")):
        _alike(ours, theirs[name])
    rare = _draw(erase=0.25).erase
    assert rare is not None
    assert stats.binomtest(int((rare[:, 2] > rare[:, 0]).sum()), NUM, 0.25).pvalue > 1e-4
    assert _draw().erase is None


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


def test_adding_one_augmentation_moves_no_other() -> None:
    base = _draw(crop="random_resized", flip="horizontal")
    more = _draw(
        crop="random_resized",
        flip="horizontal",
        color_jitter=ColorJitter(0.5),
        erase=1.0,
        grayscale=0.5,
    )
    np.testing.assert_array_equal(base.geometry, more.geometry)


def test_mixing_weights_and_boxes() -> None:
    """Beta(alpha, alpha); CutMix boxes have the area that the weight says, as torchvision's do;
    both: one or the other."""
    mixup = Augmentation(image_size=64, mixup=0.4)
    weights = np.array(
        [draw_mix(mixup, 8, 0, epoch, batch).weight for epoch in range(20) for batch in range(50)]
    )  # type: ignore[union-attr]
    assert stats.kstest(weights, stats.beta(0.4, 0.4).cdf).pvalue > 1e-4
    cutmix = Augmentation(image_size=64, cutmix=1.0)
    plans = [draw_mix(cutmix, 8, 0, 0, batch) for batch in range(1000)]
    boxes = np.array([plan.box for plan in plans])  # type: ignore[union-attr]
    torch.manual_seed(0)
    theirs = v2.CutMix(num_classes=4)
    drawn = [theirs.make_params([torch.zeros(2, 3, 64, 64)]) for _ in range(1000)]
    _alike(boxes[:, 0], np.array([d["box"][0] for d in drawn]))
    _alike(boxes[:, 3] - boxes[:, 1], np.array([d["box"][3] - d["box"][1] for d in drawn]))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    np.testing.assert_allclose([plan.weight for plan in plans], 1 - areas / 64**2)  # type: ignore[union-attr]
    both = [
        draw_mix(Augmentation(image_size=64, mixup=0.4, cutmix=1.0), 8, 0, 0, batch)
        for batch in range(1000)
    ]
    assert stats.binomtest(sum(plan.box is None for plan in both), 1000, 0.5).pvalue > 1e-4  # type: ignore[union-attr]
    assert draw_mix(Augmentation(), 8, 0, 0, 0) is None
