"""bench policies: a figure for each library that has the policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.bench.suites.policies import measure


@pytest.mark.parametrize("policy", ["none", "rand_augment", "trivial_augment_wide"])
def test_each_library_is_measured(shapes: Path, policy: str, needs: Callable[[str], None]) -> None:
    needs("timm")
    found = measure(str(shapes), policy, 16, images=4, rounds=2)
    libraries = {"slipform", "torchvision.v2"}
    assert set(found) == (libraries if policy == "trivial_augment_wide" else libraries | {"timm"})
    assert all(estimate.median > 0 for estimate in found.values())
