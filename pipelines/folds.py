"""k folds of a dataset: `Fold`, and the fold of each sample.

In: labels, the number of folds, a seed. Out: the samples of a fold. They are a pure function of
these, on any machine and with any version of numpy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.limits import MAX_SEED, whole

__all__ = ["Fold"]

_Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One of k folds: val is this fold, and train is all other images of train and val.

    Attributes:
        number: 1..count.
        count: The number of folds, 2 or more.
        seed: Seed of the division, 0 or more.

    Raises:
        ConfigError: There is no such fold, or a value is no whole number.

    Example:
        >>> import slipform as sf
        >>> with sf.Loader("data/shapes", "val", batch_size=8, fold=sf.Fold(2, 5, seed=1)) as fold:
        ...     print(fold.num_samples)
        60
    """

    number: int
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("number", "count", "seed"):  # numbers of numpy become those of Python
            object.__setattr__(self, name, whole(f"{name} of a fold", getattr(self, name)))
        if self.count < 2 or not 1 <= self.number <= self.count:
            raise _wrong(str(self))
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed of a fold = {self.seed}: give 0 to {MAX_SEED}")

    @staticmethod
    def parse(text: str | Fold, seed: int = 0) -> Fold | None:
        """Read a text such as "2/5".

        Args:
            text: The number of the fold, from 1, and the number of folds. "": no fold. A fold stays
                as it is.
            seed: Seed of the division.

        Returns:
            The fold; None for "".

        Raises:
            ConfigError: It is another text, or something else.
        """
        if isinstance(text, Fold):
            return text
        if isinstance(text, str) and not text:
            return None
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text) if isinstance(text, str) else None
        if found is None:
            raise _wrong(text)
        return Fold(int(found[1]), int(found[2]), seed)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def num_samples(self, total: int, *, training: bool) -> int:
        """The number of samples of the fold, or of all others: the length of `samples`.

        Args:
            total: The number of samples of all folds.
            training: True: the samples outside the fold. False: those of the fold.
        """
        inside = len(range(self.number - 1, total, self.count))
        return total - inside if training else inside

    def samples(self, labels: _Int64, *, training: bool) -> _Int64:
        """The samples of the fold, or all others.

        The samples of each class are assigned to the folds in turn, in a random order, and the next
        class continues at the next fold. The folds therefore differ by at most one image of each
        class, and by at most one image in total. scikit-learn's StratifiedKFold gives the same
        numbers.

        Args:
            labels: int64 [N], a class for each sample.
            training: True: the samples outside the fold. False: those of the fold.

        Returns:
            int64 [n], sorted.

        Raises:
            ConfigError: There are more folds than samples.
        """
        if self.count > len(labels):
            raise ConfigError(
                f'fold = "{self}": there are {len(labels)} images in train and val, which is less'
                f" than {self.count} folds"
            )
        from slipform.pipelines.plan.pcg import pcg_permutation  # imports numba

        # Sorted by class, and inside a class at random.
        order = np.lexsort((pcg_permutation(self.seed, len(labels)), labels))
        folds = np.empty(len(labels), np.int64)
        folds[order] = np.arange(len(labels)) % self.count
        return np.flatnonzero((folds == self.number - 1) != training)


def _wrong(given: object) -> ConfigError:
    shown = f'"{given}"' if isinstance(given, str) else repr(given)
    return ConfigError(f'fold = {shown}: give NUMBER/COUNT, such as "1/5" to "5/5" for five folds')
