"""A run, opened: data, model, records, all where an earlier part of it left them.

In: a configuration, a dataset folder, a run folder. Out: a `Run`, which the loop works with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import torch

from slipform.models import freeze
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.train.config.resolve import RunConfig
from slipform.train.machine.device import pick_precision, set_up
from slipform.train.machine.distributed import Agreement, Process
from slipform.train.run import checkpoint, folder
from slipform.train.run import resume as resuming
from slipform.train.run.record import Recorder
from slipform.train.step.build import build_state
from slipform.train.step.evaluate import open_split
from slipform.train.step.state import TrainState


@dataclass(frozen=True)
class Run:
    """All that the loop works with. Only `state` and the loaders change."""

    config: RunConfig
    folder: Path
    manifest: Manifest
    process: Process
    state: TrainState
    train: Loader
    val: Loader | None
    recorder: Recorder
    stop_requested: Event
    agreed_stop: Agreement  # of stop_requested, over the processes

    def save(self) -> None:
        """A checkpoint of this moment. Every process calls it; the main one writes."""
        content = resuming.content(self.config, self.state, self.train, self.process)
        if self.process.is_main:
            checkpoint.save(
                self.folder, self.state.step, content, keep=self.config.train.keep_checkpoints
            )

    def save_best(self) -> None:
        """The evaluated weights, with what one needs to use them elsewhere."""
        metadata = {
            "epoch": str(self.state.best.epoch),
            "val_accuracy": str(self.state.best.accuracy),
            "model": self.config.model.name,
            "classes": json.dumps(self.manifest.classes, ensure_ascii=False),
        }
        if self.process.is_main:
            checkpoint.save_best(self.folder, self.state.evaluated.state_dict(), metadata)

    def close(self) -> None:
        self.recorder.close()
        self.train.close()
        if self.val is not None:
            self.val.close()


def open_run(
    config: RunConfig,
    data: Path,
    out: Path,
    process: Process,
    stop_requested: Event,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> Run:
    """Open everything; where `resume`, go on from the newest whole checkpoint in `out`."""
    set_up(config.train, process.device)
    manifest = read_manifest(data)
    config = config.replace("data.folder", str(data.resolve()))
    config = _with_batch_size(config, manifest, process)
    if process.is_main:
        folder.check(out, resume=resume, overwrite=overwrite)
    process.broadcast_object(None)  # all have opened the data and the folder is theirs
    messages: list[str] = []
    saved = checkpoint.load_newest(out, messages.append) if resume else None

    loader = _train_loader(config, process)
    state = build_state(
        config,
        num_classes=manifest.num_classes,
        process=process,
        first_images=lambda: _first_images(loader),
        on_load=lambda report: messages.append(str(report)),
    )
    if saved is not None:
        resuming.restore(saved, config, state, loader, process, messages.append)
        messages.append(
            f"going on after step {state.step}, epoch {loader.epoch + 1} of {config.train.epochs}"
        )
    elif resume:
        messages.append(f"{out} has no checkpoint yet: starting from the beginning")
    has_val = "val" in manifest.splits and manifest.splits["val"].num_samples > 0
    val = (
        open_split(config, "val", state.functions, process, loader.batch_size) if has_val else None
    )
    if val is None:
        messages.append(
            "this dataset has no val split: nothing is selected, the last epoch is the one tested"
        )

    if process.is_main:
        folder.prepare(out, config, manifest, resume=resume)
    recorder = Recorder(
        out, writes=process.is_main, quiet=quiet, step=state.step, epoch=state.epoch
    )
    for message in messages:
        recorder.say(message)
    recorder.say(_headline(config, manifest, state, loader, process))
    return Run(
        config,
        out,
        manifest,
        process,
        state,
        loader,
        val,
        recorder,
        stop_requested,
        process.agreement(),
    )


def _train_loader(config: RunConfig, process: Process) -> Loader:
    assert isinstance(config.train.batch_size, int)
    return Loader(
        config.data.folder,
        "train",
        config.augment,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        executor=config.data.executor,
        device=process.device,
        dtype=pick_precision(config.train.precision, process.device),
        rank=process.rank,
        world_size=process.world_size,
        threads=config.data.threads,
        prefetch=config.data.prefetch,
        on_bad=config.data.on_bad,
        block=config.data.block,
        reuse_buffers=True,
    )


def _first_images(loader: Loader) -> torch.Tensor:
    """The first batch of the run, after which the loader is at its beginning again."""
    position = loader.state_dict()
    images = next(iter(loader)).images.clone()
    loader.load_state_dict(position)
    return images


def _with_batch_size(config: RunConfig, manifest: Manifest, process: Process) -> RunConfig:
    if config.train.batch_size != "auto":
        return config
    from slipform.train.run.autosize import find_batch_size

    found = process.broadcast_object(
        find_batch_size(config, manifest, process) if process.is_main else None
    )
    return config.replace("train.batch_size", found)


def _headline(
    config: RunConfig, manifest: Manifest, state: TrainState, loader: Loader, process: Process
) -> str:
    counts = freeze.count(state.model)
    precision = str(state.functions.precision).removeprefix("torch.")
    images = f"{loader.num_samples} images of {manifest.num_classes} classes"
    many = f" on {process.world_size} processes" if process.world_size > 1 else ""
    return (
        f"{config.model.name}: {counts.total:,} parameters, {counts.trainable:,} trainable;"
        f" {images}; {process.device}{many}, {precision}, loader {loader.executor_name}, batch"
        f" {config.train.batch_size}"
    )
