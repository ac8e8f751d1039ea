"""The observations of the training images in a run: `SampleRecord`, with records.samples = true.

In: the observations of this process. Out: a file for each epoch in the run folder, and the state of
the present epoch for checkpoints. Every process has seen other samples: they are put together here.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.records.samples import write_epoch
from slipform.train.run.checkpoint import unwritable
from slipform.train.run.identity import images_of
from slipform.train.scores.observations import UNSEEN
from slipform.train.step.observe import Observations

__all__ = ["SampleRecord", "open_samples"]


class SampleRecord:
    """The observations of the present epoch, on all processes.

    Args:
        loader: The loader of the training split.
        process: This process. Every process calls each method.

    Attributes:
        observations: Those of this process.
    """

    def __init__(self, loader: Loader, process: Process) -> None:
        self.observations = Observations(loader.num_samples, process.device)
        self._process, self._images = process, images_of(loader)

    def state_dict(self) -> dict[str, Any] | None:
        """The observations of all processes, for a checkpoint; None if there are none."""
        codes = self._together()
        if (codes == UNSEEN).all():
            return None
        return {"codes": torch.from_numpy(codes), "images": self._images}

    def load_state_dict(self, saved: dict[str, Any] | None) -> None:
        """Continue the epoch of a checkpoint.

        Args:
            saved: The result of `state_dict`. Observations of other images are not loaded.
        """
        if saved is not None and saved["images"] == self._images:
            codes = saved["codes"]
            if codes.dtype != torch.int16 or codes.shape != self.observations.codes[:-1].shape:
                raise ValueError("observations of another number of samples")
            self.observations.load(codes.numpy())

    def end_epoch(self, run: Path, epoch: int) -> None:
        """Write the file of an epoch, and begin the next one. The main process writes.

        Args:
            run: The run folder.
            epoch: The epoch that has ended, counted from 1.

        Raises:
            SlipformError: The file cannot be written.
        """
        codes = self._together()
        if self._process.is_main:
            try:
                write_epoch(run, epoch, codes, self._images)
            except OSError as error:
                what = f"the observations of the samples in epoch {epoch}"
                raise unwritable(error, what, run) from error
        self.observations.clear()

    def _together(self) -> npt.NDArray[np.int16]:
        """The codes of all processes: the largest one of each sample."""
        found = self._process.all_gather(self.observations.state())
        return np.asarray(reduce(np.maximum, found))


def open_samples(config: RunConfig, loader: Loader, process: Process) -> SampleRecord | None:
    """The record of a run; None without records.samples.

    Args:
        config: The settings of the run.
        loader: The loader of the training split.
        process: This process.

    Raises:
        ConfigError: Images have several labels: there is no margin.
    """
    if not config.records.samples:
        return None
    if loader.manifest.labels == "multi":
        raise ConfigError(
            "records.samples = true is for images with one label, and this dataset has several"
            " labels for each image: remove the setting"
        )
    return SampleRecord(loader, process)
