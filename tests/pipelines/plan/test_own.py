"""Own augmentations: what a function gets, what it may return, and how it is registered and set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.plan import own_plan
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.blur import Blur
from slipform.pipelines.plan.philox import uniforms as philox_uniforms
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.plan.registry import REGISTERED, names, register_augmentation
from tests.pipelines.own import exchange

COUNT = 40
BOX: dict[str, Any] = {"image_size": 24, "crop": "random_resized", "flip": "both", "erase": 0.3}
# Every augmentation that is in the folder `own`, with its default options, and those of tests.
TABLES: dict[str, dict[str, Any]] = {
    "exchange": {}, "turn": {"degrees": 15.0}, "corner": {}, "quarter": {},
    **{
        name: {}
        for name in names()
        if REGISTERED[name].function.__module__.startswith("slipform.pipelines.plan.own.")
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def only_those_of_tests() -> Iterator[None]:
    """Forget the functions that a test registers."""
    before = dict(REGISTERED)
    yield
    REGISTERED.clear()
    REGISTERED.update(before)


def _draw(spec: Augmentation, indices: np.ndarray | None = None, seed: int = 3) -> Plan:
    indices = np.arange(COUNT) if indices is None else indices
    heights, widths = (30 + indices % 7).astype(np.int32), (50 - indices % 5).astype(np.int32)
    return draw(spec.resolved([], []), indices, heights, widths, seed, 2)


def _with(function: Callable[..., Any], *, warps: bool = False, **options: Any) -> Plan:
    """The Plan of an augmentation that has the function."""
    register_augmentation(function, warps=warps)
    return _draw(Augmentation(**BOX | options, own={function.__name__: {}}))


def _assert_equal(one: Plan, other: Plan, but: str = "") -> None:
    for field in fields(Plan):
        if field.name != but:
            a, b = getattr(one, field.name), getattr(other, field.name)
            assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, field.name


@pytest.mark.parametrize("name", TABLES)
def test_each_row_depends_on_its_sample_alone(name: str) -> None:
    spec = Augmentation(**BOX, own={name: TABLES[name]})
    whole = _draw(spec)
    for part in (np.array([31, 7]), np.array([COUNT - 1])):
        alone = _draw(spec, part)
        for field in ("geometry", "color", "clip", "erase"):
            np.testing.assert_array_equal(getattr(alone, field), getattr(whole, field)[part])
    _assert_equal(whole, _draw(spec))


def test_a_function_gets_numbers_of_its_own_key() -> None:
    got = []

    def watch(plan: Plan, uniforms: np.ndarray) -> Plan:
        got.append(uniforms)
        return plan

    _with(watch)
    key = int.from_bytes(hashlib.sha256(b"3 watch").digest()[:8], "little")
    want = [
        np.concatenate(
            [philox_uniforms(*map(np.uint64, (key, 2, sample, number))) for number in range(4)]
        )
        for sample in range(COUNT)
    ]
    np.testing.assert_array_equal(got[0], np.array(want))
    assert own_plan._key(3, "watch") != own_plan._key(3, "other")
    assert own_plan._key(3, "watch") != own_plan._key(4, "watch")


def test_nothing_else_changes() -> None:
    """With probability 0 the Plan is the one without it, and other fields are it in any case."""
    plain = Augmentation(**BOX, policy=Policy("rand_augment"), blur=Blur(0.5), border="zero")
    spec = replace(plain, own={"exchange": {"probability": 0}})
    for one, other in ((plain, spec), (spec, replace(spec, own={"exchange": False}))):
        a, b = _draw(one), _draw(other)
        _assert_equal(replace(a, chains=None), replace(b, chains=None))
        for field in ("geometry", "codes", "amounts", "weights"):
            np.testing.assert_array_equal(getattr(a.chains, field), getattr(b.chains, field))
    changed = _draw(replace(plain, own={"exchange": {"probability": 1}}))
    _assert_equal(replace(changed, chains=None), replace(_draw(plain), chains=None), "color")
    assert (changed.color != _draw(plain).color).any()


def test_a_rotation_is_that_of_the_setting() -> None:
    """The angle that `rotation` draws for a sample, given to the function."""
    base = Augmentation(image_size=24, resize=28, crop="random", flip="horizontal")
    built_in = _draw(replace(base, rotation=30))
    for sample in range(6):
        u = philox_uniforms(np.uint64(3), np.uint64(2), np.uint64(sample), np.uint64(12))[0]
        # `rotation` is clockwise for positive numbers, as the y axis points down.
        spec = replace(base, own={"turn": {"degrees": -(2 * u - 1) * 30}})
        alone = _draw(spec, np.array([sample]))
        assert not alone.axis_aligned
        np.testing.assert_allclose(
            alone.geometry[0], built_in.geometry[sample], rtol=1e-5, atol=1e-5
        )
        np.testing.assert_array_equal(alone.clip[0], built_in.clip[sample])


def test_its_arrays_may_be_read_only() -> None:
    def locks(plan: Plan, uniforms: np.ndarray) -> Plan:
        for array in (plan.clip, plan.color, plan.geometry, plan.erase):
            array.setflags(write=False)
        return plan

    policy = Policy("rand_augment")
    plain = _draw(Augmentation(**BOX, policy=policy))
    _assert_equal(_with(locks, policy=policy), plain, but="chains")


def test_the_movements_of_a_policy_follow_it() -> None:
    options = {**BOX, "policy": Policy("rand_augment", num_ops=2, magnitude=9)}
    plain, own = _draw(Augmentation(**options)), _draw(Augmentation(**options, own={"quarter": {}}))
    assert plain.chains is not None
    assert own.chains is not None
    base, moved = (g.astype(np.float64) for g in (plain.geometry, plain.chains.geometry[:, 0]))
    moves = np.linalg.inv(base) @ moved
    want = own.geometry.astype(np.float64) @ moves
    np.testing.assert_allclose(own.chains.geometry[:, 0], want, rtol=1e-3, atol=1e-3)


def test_several_are_applied_in_the_order_of_their_names() -> None:
    calls = []

    def second(plan: Plan, uniforms: np.ndarray) -> Plan:
        calls.append("second")
        return plan

    def first(plan: Plan, uniforms: np.ndarray) -> Plan:
        calls.append("first")
        return replace(plan, color=plan.color * 2)

    register_augmentation(first)
    register_augmentation(second)
    spec = Augmentation(**BOX, own={"second": {}, "first": {}})
    assert (_draw(spec).color == 2 * _draw(Augmentation(**BOX)).color).all()
    assert calls == ["first", "second"]


def test_what_a_function_makes_of_its_arrays_is_taken() -> None:
    """Changes in place, float64, and an array that is not contiguous."""

    def in_place(plan: Plan, uniforms: np.ndarray) -> Plan:
        plan.color[:, 0] = 0
        return plan

    def transposed(plan: Plan, uniforms: np.ndarray) -> Plan:
        color = np.zeros((4, 3, len(plan))).T
        color[:] = plan.color
        return replace(plan, color=color)

    plain = _draw(Augmentation(**BOX))
    changed = _with(in_place)
    assert (changed.color[:, 0] == 0).all()
    np.testing.assert_array_equal(changed.color[:, 1:], plain.color[:, 1:])
    color = _with(transposed).color
    assert color.dtype == np.float32
    assert color.flags.c_contiguous
    np.testing.assert_array_equal(color, plain.color)


def _geometry(change: Callable[[np.ndarray], object]) -> Callable[[Plan], Plan]:
    def changed(plan: Plan) -> Plan:
        change(plan.geometry)
        return plan

    return changed


def _put(at: Any, value: float) -> Callable[[Plan], Plan]:
    return _geometry(lambda geometry: geometry.__setitem__(at, value))


def _boxes(name: str, box: list[int]) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, **{name: np.tile(np.array(box), (len(plan), 1))})


WRONG: list[tuple[Callable[[Plan], Any], bool, str]] = [
    (lambda plan: None, False, "returned None, not a Plan"),
    (lambda plan: replace(plan, border="edge"), False, "changed border; it may change geometry,"),
    (lambda plan: replace(plan, color=plan.color[:, :, :3]), False, r"color float32 \[40, 3, 3\]"),
    (lambda plan: replace(plan, color=plan.color[1:]), False, r"give \[40, 3, 4\] of a floating"),
    (lambda plan: replace(plan, color=plan.color.astype(int)), False, "returned color int64"),
    (lambda plan: replace(plan, color=plan.color * np.nan), False, "color with numbers that are"),
    (lambda plan: replace(plan, color=np.full(plan.color.shape, 1e300)), False, "not finite"),
    (lambda plan: replace(plan, clip=plan.clip * 1.0), False, "clip float64 .* an integer dtype"),
    (_boxes("clip", [0, 0, 1, 2**40]), False, "clip with numbers of more"),
    (lambda plan: replace(plan, erase=None), False, "returned erase object"),
    (lambda plan: replace(plan, blur=np.zeros(len(plan))), False, "augment.blur.probability"),
    (_put((slice(None), 0, 1), 0.1), False, r"no box: .*register_augmentation\(warps=True\)"),
    (_put((slice(None), 0, 0), 0.0), False, "no width or height"),
    (_put((slice(None), 0, 2), 1e6), False, "more than 64 times the image"),
    (_put((slice(None), 0, 2), 1e6), True, "more than 64 times the image"),
    (_put((slice(None), 2, 2), 2.0), True, "last row is 0, 0 and not 1"),
    (_put((slice(None), 2, 0), -1.0), True, "third component is not above 0"),
    (_put((slice(None), 2), 0.0), True, "last row is 0, 0 and not 1"),
    (_geometry(lambda g: g.__setitem__((slice(None), 1), g[:, 0])), True, "without an inverse"),
    (_boxes("clip", [0, 0, 10, 99]), False, "clip boxes .* inside the stored image"),
    (_boxes("clip", [5, 5, 5, 9]), False, "clip boxes"),
    (_boxes("clip", [5, 5, 9, 9]), True, "changed clip, which is not possible where"),
    (_boxes("erase", [0, -1, 4, 4]), False, "erase boxes .* inside the output"),
    (_boxes("erase", [0, 0, 25, 4]), False, "erase boxes"),
    (_boxes("erase", [9, 0, 4, 4]), False, "erase boxes"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "warps", "text"), WRONG, ids=[text for *_, text in WRONG])
def test_a_plan_that_executors_cannot_render_is_refused(
    change: Callable[[Plan], Any], warps: bool, text: str
) -> None:
    def wrong(plan: Plan, uniforms: np.ndarray) -> Any:
        return change(plan)

    with pytest.raises(ConfigError, match=rf"^augment\.own\.wrong .*{text}"):
        _with(wrong, warps=warps)


def test_a_blur_may_be_changed_where_it_is_on() -> None:
    def sharp(plan: Plan, uniforms: np.ndarray) -> Plan:
        assert plan.blur is not None
        return replace(plan, blur=plan.blur - uniforms[:, 0].round())

    with pytest.raises(ConfigError, match="returned a blur below 0"):
        _with(sharp, blur=Blur(0.5))

    def soft(plan: Plan, uniforms: np.ndarray) -> Plan:
        assert plan.blur is not None
        return replace(plan, blur=plan.blur + 1)

    plain = _draw(Augmentation(**BOX, blur=Blur(0.5)))
    assert plain.blur is not None
    np.testing.assert_array_equal(_with(soft, blur=Blur(0.5)).blur, plain.blur + 1)


def test_boxes_of_its_own_are_not_filled_with_noise_that_has_no_keys() -> None:
    options = {"image_size": 24, "erase_mode": "pixel", "own": {"corner": {}}}
    plan = _draw(Augmentation(**options))
    assert plan.erase is not None
    assert plan.erase_mode == "const"
    assert plan.erase_keys is None
    assert _draw(Augmentation(**options, erase=0.1)).erase_mode == "pixel"


def test_an_error_inside_names_the_augmentation() -> None:
    def fails(plan: Plan, uniforms: np.ndarray) -> Plan:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        _with(fails)
    assert caught.value.__notes__ == ['in the augmentation "fails" of augment.own']


def test_exchange_is_what_it_says() -> None:
    """The color of a stored pixel, computed by hand: red and blue of the pixel are exchanged."""
    plan = _draw(Augmentation(**BOX, own={"exchange": {"probability": 1.0}}))
    plain = _draw(Augmentation(**BOX))
    pixel = np.array([10.0, 80.0, 200.0, 1.0])
    np.testing.assert_allclose(plan.color @ pixel[[2, 1, 0, 3]], plain.color @ pixel, rtol=1e-6)
    assert exchange.__name__ in names()
