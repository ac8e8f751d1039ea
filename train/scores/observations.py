"""The observations of a sample in an epoch, in two bytes: `Codes` become losses and margins.

In: codes that training made, see `slipform.train.step.observe`. Out: losses, margins, and whether
the image was classified rightly. A code has the loss in its upper and the margin in its lower byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "LOSS_SCALE", "MARGIN_SCALE", "MARGIN_STEPS", "MAX_LOSS", "MAX_MARGIN", "UNSEEN", "Codes",
]  # fmt: skip

# Both are stored on a scale of asinh(x * SCALE): even steps near 0, 2 to 4 % of larger values.
LOSS_SCALE, MAX_LOSS = 64.0, 64.0
MARGIN_SCALE, MAX_MARGIN, MARGIN_STEPS = 4.0, 64.0, 127
UNSEEN = -(2**15)  # the smallest int16: a sample that was not seen in the epoch
_LOSS_STEPS = 254  # an upper byte of 0 is left for UNSEEN


@dataclass(frozen=True)
class Codes:
    """Codes of samples.

    Attributes:
        values: int16, of any shape: (128 less than the code of the loss) * 256 + the code of the
            margin. The code of a loss is 1..255; that of a margin is 1..255, and from 128 on the
            image was classified rightly.
    """

    values: npt.NDArray[np.int16]

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Where a sample was seen."""
        return np.asarray(self.values != UNSEEN)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Where the true class was the most probable one. False where a sample was not seen."""
        return np.asarray((self.values & 0xFF) >= 128)

    @property
    def losses(self) -> npt.NDArray[np.float32]:
        """The cross entropy of each sample in nats; nan where a sample was not seen."""
        steps = (self.values >> 8).astype(np.float32) + (128 - 1)
        found = np.sinh(steps / _LOSS_STEPS * np.arcsinh(LOSS_SCALE * MAX_LOSS)) / LOSS_SCALE
        return np.where(self.seen, found, np.nan).astype(np.float32)

    @property
    def margins(self) -> npt.NDArray[np.float32]:
        """The logit of the true class minus the largest other one; nan where it was not seen."""
        steps = (self.values & 0xFF).astype(np.float32) - 128
        top = np.arcsinh(MARGIN_SCALE * MAX_MARGIN)
        found = np.sinh(steps / MARGIN_STEPS * top) / MARGIN_SCALE
        return np.where(self.seen, found, np.nan).astype(np.float32)
