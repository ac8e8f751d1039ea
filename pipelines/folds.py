"""k folds of a dataset: `Fold`, and the fold of each sample.

In: labels, the number of folds, a seed. Out: the samples of a fold. They are a pure function of
these, on any machine and with any version of numpy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import ConfigError, unknown
from slipform.pipelines.label_table import LabelKind, LabelTable
from slipform.pipelines.limits import MAX_SEED, whole

__all__ = ["Fold", "FoldRule"]

FoldRule: TypeAlias = Literal["all_labels", "rarest_label"]

_Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One of k folds: val is this fold, and train is all other images of train and val.

    Attributes:
        number: 1..count.
        count: The number of folds, 2 or more.
        seed: Seed of the division, 0 or more.
        rule: Of images with several labels: "all_labels" spreads each label evenly;
            "rarest_label" looks only at the rarest label of each image, as before there was a
            choice.

    Raises:
        ConfigError: There is no such fold or rule, or a value is no whole number.

    Example:
        >>> import slipform as sf
        >>> with sf.Loader("data/shapes", "val", batch_size=8, fold=sf.Fold(2, 5, seed=1)) as fold:
        ...     print(fold.num_samples)
        60
    """

    number: int
    count: int
    seed: int = 0
    rule: FoldRule = field(default="all_labels", repr=False)  # repr is in saved positions

    def __post_init__(self) -> None:
        for name in ("number", "count", "seed"):  # numbers of numpy become those of Python
            object.__setattr__(self, name, whole(f"{name} of a fold", getattr(self, name)))
        if self.count < 2 or not 1 <= self.number <= self.count:
            raise _wrong(str(self))
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed of a fold = {self.seed}: give 0 to {MAX_SEED}")
        if self.rule not in get_args(FoldRule):
            raise unknown("rule of folds", str(self.rule), get_args(FoldRule))

    @staticmethod
    def parse(text: str | Fold, seed: int = 0, rule: FoldRule = "all_labels") -> Fold | None:
        """Read a text such as "2/5".

        Args:
            text: The number of the fold, from 1, and the number of folds. "": no fold. A fold stays
                as it is.
            seed: Seed of the division.
            rule: See `Fold`.

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
        return Fold(int(found[1]), int(found[2]), seed, rule)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def name(self, labels: LabelKind) -> str:
        """The name of the division in saved positions.

        Args:
            labels: The manifest's `labels`.
        """
        by_all = labels == "multi" and self.rule == "all_labels"
        return f"{self!r} by all labels" if by_all else repr(self)

    def num_samples(self, total: int, *, training: bool) -> int:
        """The number of samples of the fold, or of all others: the length of `samples`.

        Args:
            total: The number of samples of all folds.
            training: True: the samples outside the fold. False: those of the fold.
        """
        inside = len(range(self.number - 1, total, self.count))
        return total - inside if training else inside

    def samples(self, labels: _Int64 | LabelTable, *, training: bool) -> _Int64:
        """The samples of the fold, or all others.

        The samples of each class are assigned to the folds in turn, in a random order, and the next
        class continues at the next fold. The folds therefore differ by at most one image of each
        class, and by at most one image in total. scikit-learn's StratifiedKFold gives the same
        numbers. Several labels are spread by iterative stratification, see `stratify`; the folds
        differ by at most one image in total, too.

        Args:
            labels: int64 [N], a class for each sample; or their table.
            training: True: the samples outside the fold. False: those of the fold.

        Returns:
            int64 [n], sorted.

        Raises:
            ConfigError: There are more folds than samples.
        """
        num = labels.num_samples if isinstance(labels, LabelTable) else len(labels)
        if self.count > num:
            raise ConfigError(
                f'fold = "{self}": there are {num} images in train and val, which is less'
                f" than {self.count} folds"
            )
        from slipform.pipelines.plan.pcg import pcg_permutation  # imports numba

        rank = pcg_permutation(self.seed, num)
        if isinstance(labels, LabelTable):
            if labels.kind == "multi" and self.rule == "all_labels":
                from slipform.pipelines.stratify import parts_by_labels

                sizes = [len(range(number, num, self.count)) for number in range(self.count)]
                folds = parts_by_labels(labels, [1 / self.count] * self.count, rank, sizes)
                return np.flatnonzero((folds == self.number - 1) != training)
            labels = labels.strata()
        # Sorted by class, and inside a class at random.
        folds = np.empty(num, np.int64)
        folds[np.lexsort((rank, labels))] = np.arange(num) % self.count
        return np.flatnonzero((folds == self.number - 1) != training)


def _wrong(given: object) -> ConfigError:
    shown = f'"{given}"' if isinstance(given, str) else repr(given)
    return ConfigError(f'fold = {shown}: give NUMBER/COUNT, such as "1/5" to "5/5" for five folds')
