"""The Plan after the own augmentations: `with_own` calls the functions of `registry`.

In: a Plan, its samples, seed and epoch. Out: the changed Plan. What a function returns is checked,
because executors read and write memory where a Plan says. The functions draw from a key of their
own, made of the seed and their name, so they change no other random numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan.philox import sample_uniforms
from slipform.pipelines.plan.registry import bound

if TYPE_CHECKING:
    from slipform.pipelines.plan.augmentation import Augmentation
    from slipform.pipelines.plan.plan import Plan

__all__ = ["with_own"]

_Array = npt.NDArray[Any]
_DRAWS = 4  # of four random numbers each
# The fields of a Plan that a function may change: the shape of a row, and the dtype.
_MAY_CHANGE: dict[str, tuple[tuple[int, ...], Any]] = {
    "geometry": ((3, 3), np.float32),
    "color": ((3, 4), np.float32),
    "clip": ((4,), np.int32),
    "erase": ((4,), np.int32),
    "blur": ((), np.float32),
}
# How far from the stored image a point of the output may be, in sides of the image and the output.
# Farther ones cannot be seen, and reducing the image for them would take memory without a limit.
_REACH = 64
_FLAT = 1e-6  # the smallest scale, in stored pixels per output pixel


def with_own(
    plan: Plan,
    spec: Augmentation,
    indices: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int32],
    seed: int,
    epoch: int,
) -> Plan:
    """Apply the own augmentations of a batch.

    Args:
        plan: The Plan of N samples, without chains.
        spec: The augmentation.
        indices: int64 [N], the samples.
        sizes: int32 [N, 2], widths and heights of the stored images in pixels.
        seed: The seed.
        epoch: The epoch, from 0.

    Raises:
        ConfigError: A function is not registered, or returns what executors cannot render.
    """
    for name, function in bound(spec.own):
        key = np.uint64(_key(seed, name))
        uniforms = sample_uniforms(key, np.uint64(epoch), indices, _DRAWS)
        arrays: dict[str, Any] = {field: getattr(plan, field) for field in _MAY_CHANGE}
        copies: dict[str, Any] = {
            k: None if array is None else array.copy() for k, array in arrays.items()
        }
        try:
            made = function(plan=replace(plan, **copies), uniforms=uniforms)
        except Exception as error:
            error.add_note(f'in the augmentation "{name}" of augment.own')
            raise
        plan = _Checks(name, plan, made, spec, sizes).plan()
    return plan


@lru_cache(maxsize=16)
def _key(seed: int, name: str) -> int:
    """The key of the random numbers of a function."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "little")


class _Checks:
    """The Plan that a function made, checked.

    Args:
        name: The name of the function.
        before: The Plan that it got.
        made: What it returned.
        spec: The augmentation.
        sizes: int32 [N, 2], widths and heights of the stored images in pixels.
    """

    def __init__(
        self,
        name: str,
        before: Plan,
        made: Any,
        spec: Augmentation,
        sizes: npt.NDArray[np.int32],
    ) -> None:
        self._name, self._before, self._made, self._spec = name, before, made, spec
        self._sizes, self._size = sizes, spec.image_size

    def plan(self) -> Plan:
        """The Plan with arrays of the right dtypes in the order of C, as kernels take them."""
        before, made = self._before, self._made
        if not isinstance(made, type(before)):
            self._refuse(f"returned {made!r:.60}, not a Plan")
        for field in fields(before):
            same = getattr(made, field.name) is getattr(before, field.name)
            if field.name not in _MAY_CHANGE and not same:
                self._refuse(f"changed {field.name}; it may change {', '.join(_MAY_CHANGE)}")
        arrays: dict[str, Any] = {name: self._array(name) for name in _MAY_CHANGE}
        self._check_geometry(arrays["geometry"])
        self._check_clip(arrays["clip"])
        if arrays["erase"] is not None:
            self._check_boxes("erase", arrays["erase"], self._size, empty=True)
        if arrays["blur"] is not None and (arrays["blur"] < 0).any():
            self._refuse("returned a blur below 0")
        mode = before.erase_mode if before.erase_keys is not None else "const"
        return replace(before, **arrays, erase_mode=mode)

    def _refuse(self, text: str) -> NoReturn:
        raise ConfigError(f"augment.own.{self._name} {text}")

    def _array(self, name: str) -> Any:
        """A field of the Plan that may be changed, with its dtype and shape."""
        given, old = getattr(self._made, name), getattr(self._before, name)
        row, dtype = _MAY_CHANGE[name]
        if given is None and old is None:
            return None
        if name == "blur" and old is None:
            self._refuse("changed blur: set augment.blur.probability above 0, too")
        array = np.asarray(given)
        shape = (len(self._before), *row)
        kind = "a floating" if dtype is np.float32 else "an integer"
        if array.shape != shape or array.dtype.kind not in ("f" if dtype is np.float32 else "iu"):
            found = f"{array.dtype} {list(array.shape)}"
            self._refuse(f"returned {name} {found}: give {list(shape)} of {kind} dtype")
        if dtype is np.int32 and (array != array.astype(np.int32)).any():
            self._refuse(f"returned {name} with numbers of more than 32 bits")
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, dtype)
        if dtype is np.float32 and not np.isfinite(array).all():
            self._refuse(f"returned {name} with numbers that are not finite")
        return array

    def _check_geometry(self, geometry: _Array) -> None:
        """Check the rows that the function changed."""
        changed = (geometry != self._before.geometry).any(axis=(1, 2))
        matrices, sizes = geometry[changed].astype(np.float64), self._sizes[changed]
        if not self._before.axis_aligned:
            self._check_warp(matrices, sizes)
            return
        rest = matrices.copy()
        rest[:, [0, 1, 0, 1], [0, 1, 2, 2]] = 0
        if (rest != np.diag([0.0, 0.0, 1.0])).any():
            self._refuse(
                "returned a geometry that is no box: register it with"
                " @sf.register_augmentation(warps=True)"
            )
        if (np.abs(matrices[:, [0, 1], [0, 1]]) < _FLAT).any():
            self._refuse("returned a geometry of no width or height")
        self._check_reach(matrices, sizes)

    def _check_warp(self, matrices: _Array, sizes: _Array) -> None:
        affine = (matrices[:, 2, :2] == 0).all(axis=1)
        if (matrices[affine, 2, 2] != 1).any():
            self._refuse("returned a geometry whose last row is 0, 0 and not 1")
        middle = matrices @ [self._size / 2, self._size / 2, 1]
        behind = middle[:, 2] <= 0
        if not self._spec.perspective:  # which may have corners behind the camera
            behind |= (self._corners(matrices)[:, 2] <= 0).any(axis=1)
        if behind.any():
            self._refuse("returned a geometry whose third component is not above 0 everywhere")
        center = middle[:, :2, None] / middle[:, 2:, None]
        scales = (matrices[:, :2, :2] - center * matrices[:, 2:, :2]) / middle[:, 2:, None]
        if (np.abs(np.linalg.det(scales)) < _FLAT**2).any():
            self._refuse("returned a geometry without an inverse")
        seen = affine if self._spec.perspective else slice(None)
        self._check_reach(matrices[seen], sizes[seen])

    def _corners(self, matrices: _Array) -> _Array:
        """float64 [N, 3, 4]: the corners of the output in the stored images."""
        s = self._size
        corners: _Array = matrices @ np.array([[0, s, 0, s], [0, 0, s, s], [1, 1, 1, 1]], float)
        return corners

    def _check_reach(self, matrices: _Array, sizes: _Array) -> None:
        corners = self._corners(matrices)
        points = np.abs(corners[:, :2] / corners[:, 2:])
        if (points > _REACH * (sizes + self._size)[:, :, None]).any():
            self._refuse(f"returned a geometry of more than {_REACH} times the image")

    def _check_clip(self, clip: _Array) -> None:
        changed = (clip != self._before.clip).any(axis=1)
        if not changed.any():
            return
        if not self._before.axis_aligned:
            self._refuse("changed clip, which is not possible where images are warped")
        self._check_boxes("clip", clip[changed], self._sizes[changed], empty=False)

    def _check_boxes(self, name: str, boxes: _Array, sides: Any, *, empty: bool) -> None:
        low, high = boxes[:, :2], boxes[:, 2:]
        if (low < 0).any() or (high > sides).any() or (low > high - (not empty)).any():
            where = "the output" if name == "erase" else "the stored image"
            self._refuse(f"returned {name} boxes that are not x0, y0, x1, y1 inside {where}")
