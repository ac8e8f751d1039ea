"""Training without figures, which takes longer to draw than the runs of tests take to train.

In: a MonkeyPatch. Out: until it is undone, runs draw nothing, or pages have empty figures.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import slipform.train.figures.curves
import slipform.train.figures.events
import slipform.train.figures.result
import slipform.train.page.parts

__all__ = ["with_empty_svgs", "without_figures"]


def without_figures(patch: pytest.MonkeyPatch) -> None:
    """Replace all functions that draw the figures of a run or a sweep.

    Modules of train import the modules of these functions: a function that is imported by name, for
    the first time in such a test, would be the replacement ever after.
    """
    patch.setattr(slipform.train.figures.curves, "draw_run", lambda *_: Path())
    patch.setattr(slipform.train.figures.curves, "draw_sweep", lambda *_: None)
    patch.setattr(slipform.train.figures.result, "draw_result", lambda *_: None)
    patch.setattr(slipform.train.figures.events, "draw_events", lambda *_: [])


def with_empty_svgs(patch: pytest.MonkeyPatch) -> None:
    """Make the figures of pages, but leave out their drawing, which takes most of the time of a
    page."""
    patch.setattr(slipform.train.page.parts, "svg", lambda *_: "<svg></svg>")
