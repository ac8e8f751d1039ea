"""Rotation, zoom, shear, translation and perspective of the Plan, compared with torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomPerspective, v2
from torchvision.transforms.v2 import functional as F

from slipform.pipelines.plan.plan import Plan
from tests.pipelines.plan.draws import NUM, alike, blank, draw_plan, theirs_of


def _turned(plan: Plan, box: tuple[float, float]) -> np.ndarray:
    """The linear part of output -> crop, in output pixels, without the scale of the box."""
    return plan.geometry[:, :2, :2] / np.array(box)[:, None]


def test_rotation_zoom_shear_and_translation() -> None:
    """The angle, scale, shear and translations of RandomAffine, computed from the matrices."""
    options = {
        "crop": "none",
        "rotation": 30.0,
        "zoom": (0.5, 1.6),
        "shear": 20.0,
        "translate": (0.2, 0.1),
    }
    plan = draw_plan(height=64, width=64, **options)
    affine = v2.RandomAffine(30, translate=(0.2, 0.1), scale=(0.5, 1.6), shear=20)
    theirs = theirs_of(affine, ["angle", "translate", "scale", "shear"], image=blank(64, 64))
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
    )  # the image of the center
    alike(angle, theirs["angle"])
    alike(zoom, theirs["scale"])
    alike(np.rad2deg(np.arctan(unrotated[:, 0, 1])), theirs["shear"][:, 0])
    for axis in range(2):
        moved = middle[:, axis] - 32
        np.testing.assert_allclose(moved, np.rint(moved), atol=1e-2)
        alike(np.rint(moved), theirs["translate"][:, axis])


def _rotation(degrees: np.ndarray) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.stack([np.cos(a), -np.sin(a), np.sin(a), np.cos(a)], -1).reshape(-1, 2, 2)


def test_affine_turns_about_the_crop_center_in_output_pixels() -> None:
    """The center is not that of the stored image, and a rotation stays a rotation if the box is
    squeezed."""
    plan = draw_plan(height=50, width=190, crop="none", rotation=45.0)
    np.testing.assert_allclose(
        plan.geometry @ np.array([32, 32, 1], np.float32), np.tile([95, 25, 1], (NUM, 1)), rtol=1e-4
    )
    linear = _turned(plan, (190 / 64, 50 / 64)).astype(np.float64)
    np.testing.assert_allclose(
        linear @ linear.transpose(0, 2, 1), np.tile(np.eye(2), (NUM, 1, 1)), atol=1e-5
    )


def test_the_affine_matrix_is_torchvisions() -> None:
    """torchvision's affine with the same angle, zoom and translation gives the same image."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:30, 10:50] = 255
    options = {"crop": "none", "rotation": 40.0, "zoom": (0.7, 1.4), "translate": (0.2, 0.2)}
    plan = draw_plan(12, 64, 64, **options)
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
    """The corners of the crop move to the end points of RandomPerspective, which are pixel centers
    there and pixel edges here."""
    plan = draw_plan(
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
            alike(moved, np.abs(ends[:, k, axis] - edge))


@pytest.mark.parametrize("distortion", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_perspective_is_finite_and_in_front_of_the_camera(distortion: float, size: int) -> None:
    """Strong distortion gives quadrilaterals without an inverse homography (corners on a line).
    Those samples are not distorted."""
    plan = draw_plan(20_000, image_size=size, perspective=distortion, perspective_probability=1.0)
    assert np.isfinite(plan.geometry).all()
    if distortion < 1:  # a quadrilateral may fold over itself beyond this
        # The center of the crop is visible: the depth at its output position is positive.
        g = plan.geometry.astype(np.float64)
        box = draw_plan(1, image_size=size).geometry[0].astype(np.float64)
        middle = np.linalg.solve(g, np.tile(box @ (size / 2, size / 2, 1), (len(g), 1))[..., None])[
            ..., 0
        ]
        assert (np.einsum("nk,nk->n", g[:, 2], middle / middle[:, 2:]) > 0).mean() > 0.999


def test_perspective_has_its_probability() -> None:
    plan = draw_plan(crop="none", height=64, width=64, perspective=0.5, perspective_probability=0.3)
    kept = (np.abs(plan.geometry - np.eye(3)) < 1e-6).all((1, 2)).sum()
    assert stats.binomtest(int(NUM - kept), NUM, 0.3).pvalue > 1e-3
