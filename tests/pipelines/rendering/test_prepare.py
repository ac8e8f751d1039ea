"""Whether the kernels for an augmentation are compiled."""

from __future__ import annotations

import numpy as np
import pytest

from slipform.pipelines.decoding.pixels import Pixels
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.chains import draw_operations
from slipform.pipelines.plan.kernels import draw
from slipform.pipelines.plan.plan import draw as draw_plan
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering import prepare
from slipform.pipelines.rendering.chains import render_chains
from slipform.pipelines.rendering.render import render


@pytest.mark.parametrize(
    ("policy", "needed"),
    [("none", [draw, render]), ("augmix", [draw, draw_operations, render_chains])],
)
def test_the_kernels_of_an_augmentation(
    policy: str, needed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Augmentation(image_size=8, policy=Policy(policy)).resolved([], [])  # type: ignore[arg-type]
    compiled = [draw, draw_operations, render, render_chains]
    monkeypatch.setattr(prepare, "is_compiled", lambda kernel: kernel in compiled)
    assert prepare.are_compiled(spec)
    for kernel in needed:
        compiled.remove(kernel)
        assert not prepare.are_compiled(spec)
        compiled.append(kernel)
    compiled[:] = needed
    assert prepare.are_compiled(spec)
    sides = np.full(1, 8, np.int32)
    plan = draw_plan(spec, np.zeros(1, np.int64), sides, sides, 0, 0)
    kernel, _ = prepare.prepared(plan, Pixels(np.zeros(1, np.int64), sides, sides), 8, 0)
    assert kernel is needed[-1]  # which is what a batch then calls
