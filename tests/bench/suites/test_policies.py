"""bench policies: figures for each policy and library, from decoded pixels and from JPEGs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slipform.bench.suites.policies import measure


def test_each_library_is_measured(shapes: Path, needs: Callable[[str], None]) -> None:
    needs("timm")
    found = measure(str(shapes), "decoded", True, images=2, rounds=1)
    libraries = {name: {other for policy, other in found if policy == name} for name, _ in found}
    assert libraries.pop("trivial_augment_wide") == {"slipform", "torchvision.v2"}
    assert libraries["rand_augment"] >= {"slipform", "torchvision.v2"}
    assert all(figures["sample_seconds"].median > 0 for figures in found.values())
    assert found["none", "slipform"]["plain_ratio"].median == 1


def test_stored_samples_are_measured(shapes: Path) -> None:
    found = measure(str(shapes), "stored", False, images=4, rounds=1)
    assert {library for _, library in found} == {"slipform"}
    assert all(figures["plain_ratio"].median > 0 for figures in found.values())
