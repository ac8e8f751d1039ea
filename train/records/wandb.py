"""The sink "wandb": a run of Weights & Biases.

In: the numbers of a run. Out: a run in the project, online or offline as WANDB_MODE and `wandb
login` say. A resumed run continues it: W&B leaves out steps that it has already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from torch import Tensor

from slipform.train.records.sink import Place, Rows, Sink, required

__all__ = ["NAMES", "PACKAGE", "open_sink"]

PACKAGE = "wandb"
NAMES = ("wandb", ".wandb")  # W&B uses the second one where it exists

_SECONDS = 30.0  # for the first connection


def open_sink(place: Place) -> Sink:
    """Open the sink.

    Args:
        place: The run; its key is the id of W&B's run.

    Raises:
        SlipformError: wandb is not installed.
    """
    required(PACKAGE)
    return _Wandb(place)


class _Wandb(Sink):
    def __init__(self, place: Place) -> None:
        import wandb

        self._wandb = wandb
        self._run: Any = wandb.init(
            project=place.project,
            name=place.name,
            id=place.key,
            resume="allow",
            dir=str(place.folder),
            reinit="create_new",  # a run that the user's program has opened does not change
            settings=wandb.Settings(console="off", init_timeout=_SECONDS, silent=True),
        )

    def settings(self, values: Mapping[str, Any]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)

    def numbers(self, rows: Rows) -> None:
        for step, values in rows:
            self._run.log(dict(values), step=step)

    def image(self, name: str, image: Tensor, step: int) -> None:
        picture = self._wandb.Image(image.permute(1, 2, 0).numpy())
        self._run.log({name: picture}, step=max(step, 1))

    def histogram(self, name: str, values: npt.NDArray[Any], step: int) -> None:
        self._run.log({name: self._wandb.Histogram(values.ravel().tolist())}, step=step)

    def summary(self, step: int, values: Mapping[str, float]) -> None:
        self._run.summary.update(dict(values))

    def close(self) -> None:
        self._run.finish()
