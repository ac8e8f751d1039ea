"""[records]: where the numbers of a run are kept beside metrics.jsonl.

In: values from TOML. Out: checked settings. They have no influence on training.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slipform.train.config.section import Section

__all__ = ["RecordsConfig"]


class RecordsConfig(Section):
    """[records]: where the numbers of a run are kept. metrics.jsonl always has them.

    Attributes:
        sinks: "tensorboard": an event file in the run folder. "csv": epochs.csv and final.csv
            there. "wandb", "mlflow", "trackio": a run of that tracker, which needs its package (the
            extra records). A new run without the package is refused; a sink that fails later does
            not end the run.
        project: The project of W&B and trackio, the experiment of MLflow.
        name: The name of the run there; "": the name of its folder.
        samples: Whether loss, margin and correctness of every training image are kept for each
            epoch, in two bytes, in the folder samples/ of the run. `validate --suspects` reads
            them.
    """

    sinks: tuple[Literal["tensorboard", "csv", "wandb", "mlflow", "trackio"], ...] = (
        "tensorboard",
    )
    project: str = Field(default="slipform", pattern=r"^[\w .-]+$")
    name: str = ""
    samples: bool = False
