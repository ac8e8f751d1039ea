"""A trained model, loaded from its run folder, to be validated, asked or exported.

In: a run folder. Out: a `Trained`: the best epoch's weights in the model of that run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.train.config.resolve import RunConfig
from slipform.train.machine.distributed import Process, pick_device
from slipform.train.run import checkpoint
from slipform.train.run.folder import run_config
from slipform.train.step.build import build_state
from slipform.train.step.evaluate import evaluate, open_split
from slipform.train.step.metrics import Evaluation
from slipform.train.step.state import TrainState

BATCH_SIZE = 64


@dataclass(frozen=True)
class Trained:
    """state.evaluated has the best weights and is in evaluation mode."""

    folder: Path
    config: RunConfig
    manifest: Manifest
    process: Process
    state: TrainState

    @property
    def classes(self) -> list[str]:
        return self.manifest.classes


def load_trained(run: Path, device: str) -> Trained:
    """Raises SlipformError where `run` is no run folder or has no whole best.safetensors."""
    config = run_config(run)
    manifest = read_manifest(run)
    weights = checkpoint.load_best(run)
    plain = config.model_copy(
        update={
            "model": _without_weights(config),
            # One model is enough, and compiling costs more than it saves here.
            "train": config.train.model_copy(
                update={"ema": 0.0, "compile": "off", "unfreeze_at_epoch": 1}
            ),
        }
    )
    process = Process(pick_device(device, 0))
    state = build_state(plain, num_classes=manifest.num_classes, process=process)
    state.model.load_state_dict(weights)
    state.model.eval()
    return Trained(run, config, manifest, process, state)


def _without_weights(config: RunConfig) -> object:
    from dataclasses import replace

    return replace(config.model, weights="none")


def validate_trained(trained: Trained, data: Path | None, split: str) -> tuple[Evaluation, Loader]:
    """The result on a split of `data`, or of the run's own dataset; and the loader, which the
    caller closes.

    Images are normalized with the mean and deviation that training used.
    """
    folder = data or Path(trained.config.data.folder)
    other = read_manifest(folder)
    other.split(split)
    if other.classes != trained.classes:
        raise ConfigError(
            f"{folder} has other classes ({len(other.classes)}) than {trained.folder}"
            f" ({len(trained.classes)})"
        )
    config = trained.config.model_copy(
        update={
            "data": trained.config.data.model_copy(update={"folder": str(folder)}),
            "augment": trained.config.augment.resolved(trained.manifest.mean, trained.manifest.std),
        }
    )
    loader = open_split(config, split, trained.state, trained.process, BATCH_SIZE)
    return evaluate(trained.state, loader, trained.process), loader
