"""`MovingAverage`: the smoothing of losses, for figures and for the learning-rate finder.

In: one loss after another. Out: their average so far.
"""

from __future__ import annotations

__all__ = ["MovingAverage"]


class MovingAverage:
    """An exponential moving average, corrected for its beginning as in Adam.

    Args:
        decay: The weight of the average before a new value, 0..1 (1 is not allowed).
    """

    def __init__(self, decay: float) -> None:
        self._decay, self._sum, self._left = decay, 0.0, 1.0

    def add(self, value: float) -> float:
        """Add a value.

        Args:
            value: The value.

        Returns:
            The average of all values so far; the first one is the first value.
        """
        self._sum = self._decay * self._sum + (1 - self._decay) * value
        self._left *= self._decay
        return self._sum / (1 - self._left)
