"""Limits of the measurements before a run: their share of its time, and the shortest run with one.

In: nothing. Out: numbers, for `decide` and `pick_executor`.
"""

from __future__ import annotations

__all__ = ["BUDGET_SHARE", "FEW_STEPS"]

BUDGET_SHARE = 0.02  # of the expected time of the run
FEW_STEPS = 300  # 2 % of fewer steps are too few for a comparison
