"""The note about sizes of images that no epoch of a run has."""

from __future__ import annotations

from slipform.train.config.image_sizes import sizes_note
from slipform.train.config.resolve import resolve


def note(epochs: int, sizes: str) -> str:
    config = resolve(
        sets=["augment.image_size=32", f"train.epochs={epochs}", f"train.image_sizes={sizes}"]
    )
    return sizes_note(config)


def test_sizes_after_the_last_epoch_are_named() -> None:
    growing = "[[1, 16], [3, 24], [9, 32]]"
    used = ", 16 px, 24 px from epoch 3 (35 % of the pixels of 32 px), 32 px in evaluation"
    assert note(3, growing) == f"{used}, not used: 32 px from epoch 9 (train.epochs = 3)"
    assert note(2, growing) == (
        ", 16 px (25 % of the pixels of 32 px), 32 px in evaluation, not used: 24 px from epoch 3,"
        " 32 px from epoch 9 (train.epochs = 2)"
    )
    assert note(2, "[[3, 16]]") == ", not used: 16 px from epoch 3 (train.epochs = 2)"


def test_the_last_epoch_is_used() -> None:
    assert "not used" not in note(9, "[[1, 16], [3, 24], [9, 32]]")
    assert note(2, "[]") == ""
