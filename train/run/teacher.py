"""The teacher of a run: it answers for the images of an epoch once, and the file is used again.

In: the [distill] section, the run's loader. Out: the answers of the present epoch on the device,
the same for every student with the same images, whether it made the file or read it.

The teacher sees the views of the student, as in Beyer et al., "Knowledge Distillation: A Good
Teacher is Patient and Consistent", CVPR 2022.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from slipform.pipelines.errors import ConfigError, SlipformError, nearest_path
from slipform.pipelines.files import open_regular
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import FILE_NAME, Manifest, read_manifest
from slipform.pipelines.upload import upload
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.device import pick_precision
from slipform.train.machine.distributed import Process
from slipform.train.run.answers import (
    FOLDER,
    Stored,
    add_answers,
    answers_path,
    read_answers,
)
from slipform.train.run.best import BEST
from slipform.train.run.identity import check_data, images_of
from slipform.train.run.teacher_net import TeacherNet, about_teacher, check_sizes
from slipform.train.step.distill import Answers, Distillation

__all__ = ["Teacher", "check_not_own", "with_teacher"]


def check_not_own(config: RunConfig, out: Path) -> None:
    """Check that distill.teacher is not the folder that the run writes to, also through links.

    Args:
        config: The settings of the run.
        out: The run folder; it may not exist yet.

    Raises:
        ConfigError: It is. The run would remove the weights of its teacher.
    """
    teacher = Path(config.distill.teacher)
    if config.distill.teacher and out.exists() and teacher.exists() and teacher.samefile(out):
        raise ConfigError(
            f"distill.teacher = {teacher} is the folder of this run, which would replace the"
            " weights of its teacher: give another --out, or another teacher"
        )


def with_teacher(config: RunConfig, manifest: Manifest, process: Process) -> RunConfig:
    """Check [distill], and record the teacher's weights in it.

    Args:
        config: The settings of the run.
        manifest: The manifest of the dataset.
        process: This process; every process calls this function.

    Returns:
        The settings with absolute folders and the SHA-256 of the teacher; unchanged without a
        teacher.

    Raises:
        ConfigError: The run cannot have a teacher, the teacher does not know the classes, or its
            weights are not those with which the run began.
        SlipformError: distill.teacher is no run folder, or has no weights.
    """
    distill = config.distill
    if not distill.teacher:
        return config
    folder = Path(distill.teacher).resolve()
    _check(config, manifest, process)
    if not (folder / FILE_NAME).is_file():
        raise SlipformError(
            f"distill.teacher = {folder} is no run folder: give a finished run."
            f"{nearest_path(folder, FILE_NAME)}"
        )
    check_data(read_manifest(folder), manifest, config.data.folder, folder)
    found = process.broadcast_object(_sha256(folder) if process.is_main else "")
    _check_weights(folder, distill.sha256, found)
    check_sizes(folder, config, process.device)
    answers = str(Path(distill.answers).resolve()) if distill.answers else ""
    changed = {"teacher": str(folder), "sha256": found, "answers": answers}
    return config.replace("distill", distill.model_copy(update=changed))


def _check(config: RunConfig, manifest: Manifest, process: Process) -> None:
    if manifest.labels == "multi":
        raise ConfigError("distill.teacher is for one label an image; this dataset has several")
    if config.data.sampling != "all":
        raise ConfigError(
            "distill.teacher: answers are stored by epoch and image, and data.sampling may draw an"
            ' image several times in an epoch. Set data.sampling = "all"; loss.class_weights also'
            " gives rare classes more weight."
        )
    if config.train.steps_per_launch > 1 and process.device.type == "cuda":
        raise ConfigError("distill.teacher needs train.steps_per_launch = 1")


def _check_weights(folder: Path, before: str, found: str) -> None:
    """Check that the SHA-256 of the weights is that with which the run began; "": any."""
    if before not in ("", found):
        raise ConfigError(
            f"the weights of the teacher {folder} have changed since this run began (SHA-256"
            f" {found[:12]}..., before {before[:12]}...): restore them. `train --resume` accepts"
            ' the new ones with --set distill.sha256=""'
        )


def _sha256(folder: Path) -> str:
    path = folder / BEST
    if not path.exists():
        raise SlipformError(
            f"{folder} has no {BEST}: give distill.teacher a run that finished an epoch"
        )
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


class Teacher:
    """A trained model that answers for the images of a run.

    Args:
        config: The settings of the run, as `with_teacher` returns them.
        process: This process.
        say: Prints a message.
    """

    def __init__(self, config: RunConfig, process: Process, say: Callable[[str], None]) -> None:
        self._config, self._process, self._say = config, process, say
        self._folder = Path(config.distill.teacher)
        answers = config.distill.answers
        self._answers = Path(answers) if answers else self._folder / FOLDER
        self._loaded: tuple[Path, int, int] | None = None

    def begin_epoch(
        self,
        loader: Loader,
        table: Distillation | None,
        progress: Callable[[int], Callable[[], None]],
        asked: Callable[[], bool],
    ) -> Distillation | None:
        """Load the answers for the rest of the present epoch; the teacher makes what is missing.

        Every process calls this. A second call in the same epoch changes nothing.

        Args:
            loader: The loader of the training split. Its position does not change.
            table: The result of the call before; its memory is used again.
            progress: Called with the number of batches that the teacher is going to see. Its result
                is called after each.
            asked: Called after each of these batches: whether the run is asked to stop, the same on
                every process.

        Returns:
            `table`, or a new one. None: the run is asked to stop. What the teacher has answered
            until then is stored.

        Raises:
            ConfigError: The weights of the teacher have changed.
            SlipformError: A stored file is damaged, or cannot be written.
        """
        settings, process = self._config.distill, self._process
        if table is None:
            empty = Answers.empty(
                loader.num_samples, loader.num_classes, settings.top, process.device
            )
            table = Distillation(empty, settings.share, settings.temperature)
        about = self._about(loader)
        path = answers_path(self._answers, about, loader.epoch + 1)
        first = loader.seen
        end = first + loader.remaining_batches * loader.global_batch_size
        if first == end:
            return table
        if self._loaded is not None:
            loaded, loaded_first, loaded_end = self._loaded
            if loaded == path and loaded_first <= first and end <= loaded_end:
                return table
        stored = read_answers(path, table.answers) if process.is_main else None
        known = stored.known_until(first) if stored is not None else first
        if (end - known) % loader.global_batch_size:  # written by a student with other batches
            known = first
        known, stopped = process.broadcast_object(known), False
        if known < end:
            position = loader.state_dict()
            try:
                loader.load_state_dict(position | {"seen": known})
                new, stopped = self._made(loader, table.answers, progress, asked)
            finally:
                loader.load_state_dict(position)
            if process.is_main:
                stored = add_answers(path, about, new)
        if stopped:
            return None
        if stored is not None:
            table.answers.values.copy_(stored.answers.values)
            table.answers.classes.copy_(stored.answers.classes)
        process.broadcast([table.answers.values, table.answers.classes])
        self._loaded = (path, first, end)
        return table

    def _about(self, loader: Loader) -> dict[str, Any]:
        """Everything that the answers of an epoch and their order depend on."""
        config = self._config
        views: dict[str, Any] = {}
        if loader.augment.mixup or loader.augment.cutmix:  # the images of a batch are mixed
            total, processes = loader.global_batch_size, self._process.world_size
            views = {
                "batch_size": total / processes if total % processes else total // processes,
                "processes": processes,
                "offset": loader.seen % total,
            }
        return {
            "format": 2,  # 1: with the flip_test and shift_test of the teacher's run
            "teacher": config.distill.sha256,
            "teacher_settings": about_teacher(self._folder, self._process.device),
            # Other executors, and pixels in another dtype, round differently.
            "executor": loader.executor_name,
            "precision": str(pick_precision(config.train.precision, self._process.device)),
            "classes": loader.manifest.classes,
            "images": images_of(loader),
            "fold": [config.data.fold, config.data.fold_seed] if config.data.fold else "",
            "seed": config.train.seed,
            "block": config.data.block,
            "augment": asdict(loader.augment),
            "decode_scale": config.data.decode_scale,
            "mixed": views,
            "top": config.distill.top,
        }

    def _made(
        self,
        loader: Loader,
        like: Answers,
        progress: Callable[[int], Callable[[], None]],
        asked: Callable[[], bool],
    ) -> tuple[Stored, bool]:
        """The teacher's answers for the rest of the epoch, of all processes, on the CPU. Whether
        they were asked to stop: then the answers are those until there."""
        began, process = time.perf_counter(), self._process
        epoch, first = loader.epoch + 1, loader.seen
        _check_weights(self._folder, self._config.distill.sha256, _sha256(self._folder))
        net = TeacherNet(self._folder, loader)
        made = Answers(torch.zeros_like(like.values), torch.zeros_like(like.classes))
        known = torch.zeros(len(made.values), dtype=torch.int32, device=process.device)
        end, stopped = first, False
        step = progress(loader.remaining_batches)
        for batch in loader:
            samples = upload(batch.indices, process.device)
            made.put(samples, net.logits(batch))
            known[samples] = 1
            end += loader.global_batch_size
            step()
            if stopped := asked():
                break
        # Each sample has an answer on one process, and 0 on the others.
        classes = process.all_reduce(made.classes.int())
        values = process.all_reduce(made.values.float()).half()
        values[process.all_reduce(known) == 0] = torch.nan
        answers = Answers(values.cpu(), classes.to(made.classes.dtype).cpu())
        seconds = time.perf_counter() - began
        self._say(
            f"epoch {epoch}: the teacher answered in {seconds:.1f} s;"
            f" {answers.num_bytes / 1e6:.1f} MB in {self._answers}"
        )
        return Stored(answers, first, end), stopped
