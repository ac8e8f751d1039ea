"""k folds of a dataset: `Fold`, and the fold of each sample.

In: labels, the number of folds, a seed. Out: the number of the fold of each sample. It is a pure
function of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError

__all__ = ["Fold"]

_Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One of k folds: val is this fold, and train is all other images of train and val.

    Attributes:
        number: 1..count.
        count: The number of folds, 2 or more.
        seed: Seed of the division, 0 or more.

    Example:
        >>> import slipform as sf
        >>> with sf.Loader("data/shapes", "val", batch_size=8, fold=sf.Fold(2, 5, seed=1)) as fold:
        ...     print(fold.num_samples)
        60
    """

    number: int
    count: int
    seed: int = 0

    @staticmethod
    def parse(text: str, seed: int = 0) -> Fold | None:
        """Read a text such as "2/5".

        Args:
            text: The number of the fold, from 1, and the number of folds. "": no fold.
            seed: Seed of the division.

        Returns:
            The fold; None for "".

        Raises:
            ConfigError: It is another text.
        """
        if not text:
            return None
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        number, count = (int(part) for part in found.groups()) if found else (0, 0)
        if count < 2 or not 1 <= number <= count:
            raise ConfigError(
                f'fold = "{text}": give NUMBER/COUNT, such as "1/5" to "5/5" for five folds'
            )
        return Fold(number, count, seed)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

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
        # Sorted by class, and inside a class at random.
        order = np.lexsort((np.random.default_rng(self.seed).permutation(len(labels)), labels))
        folds = np.empty(len(labels), np.int64)
        folds[order] = np.arange(len(labels)) % self.count
        return np.flatnonzero((folds == self.number - 1) != training)
