"""The segments of a run, and the place of each step.

In: a run folder. Out: for a step, its settings, its dataset, and the position of its batches in the
epoch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from slipform.pipelines.errors import ConfigError, DatasetError
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.pipelines.mirror.folder import local_folder, source_of
from slipform.train.config.run_config import RunConfig
from slipform.train.config.toml import to_toml
from slipform.train.records import read_metrics, read_summary
from slipform.train.run.checkpoint import checkpoints, load_all, step_of
from slipform.train.run.folder import run_config
from slipform.train.run.identity import images_in
from slipform.train.run.segments import Place, Segment, Start
from slipform.train.run.starts import read_starts, segment_of, start_of_older

__all__ = ["history", "place_of_step"]


def history(run: Path, data: Path | None = None) -> list[Segment]:
    """The segments of a run, the oldest first.

    A run of an older version has no starts.jsonl: all its steps are read as if it had never been
    resumed with other settings.

    Args:
        run: The run folder.
        data: The dataset folder. Default: that in config.toml. A segment that had other images
            keeps its own folder.

    Raises:
        SlipformError: It is no run folder, its records are damaged, or no segment had the images of
            `data`.
    """
    config, last = run_config(run), _last_step(run)
    starts = read_starts(run) or [_of_older_run(run, config)]
    segments: list[Segment] = []
    for start, after in zip(starts, [*starts[1:], None], strict=True):
        segment = segment_of(start)
        planned = segment.steps_before(segment.config.train.epochs)
        segments.append(replace(segment, end=min(planned, last) if after is None else after.step))
    folder = data or local_folder(config.data.folder)
    fitting = [segment for segment in segments if _had_images_of(folder, segment)]
    if data is not None and not fitting:
        if not data.is_dir():
            raise DatasetError(f"{data} is not a folder: give the folder with the run's dataset")
        read_manifest(data)  # its errors say more
        raise DatasetError(
            f"{data} has other training images than the run had: give the folder with the run's"
            " dataset"
        )
    return [_with_data(one, folder) if one in fitting else one for one in segments]


def _last_step(run: Path) -> int:
    """The last step that the run has recorded."""
    lines = [*read_metrics(run, "step"), *read_metrics(run, "diverged")]
    if lines:
        return max(int(line["step"]) for line in lines)
    return max(map(step_of, checkpoints(run)), default=0)


def _of_older_run(run: Path, config: RunConfig) -> Start:
    """The start of a run of an older version, from its other files."""
    manifest, saved = read_manifest(run), next(load_all(run, lambda _: None), {})
    start = start_of_older(saved, to_toml(config), read_summary(run))
    return replace(
        start,
        executor=start.executor or config.data.executor,
        num_samples=start.num_samples or manifest.split("train").num_samples,
        images=images_in(manifest, _splits(manifest, config)),
    )


def _had_images_of(folder: Path, segment: Segment) -> bool:
    """Whether a folder has the training images of a segment, as far as that is known."""
    try:
        manifest = read_manifest(folder)
        own = images_in(manifest, _splits(manifest, segment.config))
    except DatasetError:
        return False
    return segment.start.images in ("", own)


def _splits(manifest: Manifest, config: RunConfig) -> list[str]:
    """The splits from which the training images come; see `open_samples`."""
    names = ("train", "val") if config.data.fold else ("train",)
    return [name for name in names if name in manifest.splits]


def _with_data(segment: Segment, folder: Path) -> Segment:
    changed = segment.config.replace("data.folder", source_of(folder))
    return replace(segment, config=changed)


def place_of_step(segments: list[Segment], step: int) -> Place:
    """The place of a step.

    Args:
        segments: The segments of a run.
        step: The step, counted from 1 over the whole run.

    Raises:
        ConfigError: The run has not trained such a step, or its settings are unknown.
    """
    segment = next((one for one in segments if one.start.step < step <= one.end), None)
    if segment is None:
        first, last = segments[0].start.step + 1, segments[-1].end
        if last < first:
            raise ConfigError(
                f"step {step}: this run has recorded no step yet. Continue it: train --resume RUN"
            )
        raise ConfigError(f"step {step}: give a step from {first} to {last}, the last one recorded")
    return segment.place_of(step)
