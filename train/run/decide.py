"""Choosing precision, memory format and compilation for "auto", by a few real steps.

In: a configuration with "auto", the size of the dataset, this process. Out: the configuration
without "auto", and the measurements. The flags of a processor do not tell the speed: bfloat16 is
1.8 times as fast as float32 on one processor with AVX-512, and 1.5 times slower on another.

All variants are measured in turns on one trial model, so that a drift of the machine's speed
affects all of them. The usual variant is kept unless another is faster beyond the noise
(`fastest`). The batches are as large as those of the run: a step has costs that do not grow with
its images, and a small batch would compare these. A part of a batch is measured only where whole
batches exceed the budget and the step is long all the same. The steps are not compiled, also if
those of the run are: to compile each variant would take up to a minute. The decision is written to
the machine's profile (`slipform.pipelines.profile`), so the next run with the same net and shape
measures nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from slipform.pipelines.errors import lacks_memory
from slipform.pipelines.fastest import fastest, rounds_needed
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.profile import read_profile
from slipform.train.config.run_config import RunConfig
from slipform.train.config.sections import Compile, TrainConfig
from slipform.train.machine.distributed import Process
from slipform.train.run.budget import BUDGET_SHARE, SHORT_SECONDS, figures, keep_choice, num_steps
from slipform.train.run.trial import Trial, Variant, profile_key, usual, variants

__all__ = ["Decision", "decide"]

# On a GPU a run that would be shorter than this is not compiled: that takes up to a minute, and
# saves about a third of the time of the steps.
_COMPILED_SECONDS = 180.0
# Nets that need a minute for fewer images are rare, and a trial model costs time.
_FEW_IMAGES = 500
_PROBE_IMAGES = 4  # the first batch of the probe; each later one is _PROBE_GROWTH times as large
_PROBE_GROWTH = 8
_LONG_STEP = 0.5  # a step of so many seconds is not only overhead
# A variant whose first step takes this many times as long as the usual one gets no more steps.
_HOPELESS = 4.0
# A variant that is below this share of the usual speed in the first three rounds gets no more.
_ELIMINATED = 0.85


@dataclass(frozen=True)
class Decision:
    """A decision.

    Attributes:
        config: The configuration without "auto" in precision, channels_last and compile.
        reason: The reason in a sentence; "" if nothing was "auto".
        rates: Variant -> its images/s in each round; the usual variant is first. Variants that were
            much slower have fewer rounds.
        seconds: How long it took, with the model of the trial.
    """

    config: RunConfig
    reason: str = ""
    rates: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)


def decide(
    config: RunConfig,
    manifest: Manifest,
    process: Process,
    *,
    thorough: bool = False,
    known: bool = True,
    profile: Path | None = None,
) -> Decision:
    """Replace "auto" in train.precision, train.channels_last and train.compile.

    Args:
        config: The configuration; train.batch_size is a number. train.auto_seconds limits the time
            of the measurement, which also takes at most 2 % of the expected time of the run.
        manifest: The manifest of the dataset.
        process: The main process; its device. With several processes, call this there only.
        thorough: For `bench tune`: also try compilation on a CPU, ignore the profile and the length
            of the run, and have no time limit.
        known: Whether a choice in the profile is taken without a measurement, and a new one is
            written to it.
        profile: The file with the profiles that is written. Default: that of the machine.

    Returns:
        The decision. A run of less than a minute gets the usual variant without a measurement, and
        so does one of few short steps. The reason tells it if the batches were smaller ones.
    """
    began = time.perf_counter()
    keep = partial(keep_choice, path=profile) if known else _forget
    found = _decide(config, manifest, process, thorough, known, keep)
    return replace(found, seconds=time.perf_counter() - began)


def _decide(
    config: RunConfig,
    manifest: Manifest,
    process: Process,
    thorough: bool,
    known: bool,
    keep: Callable[[str, dict[str, Any]], str],
) -> Decision:
    train, began = config.train, time.perf_counter()
    if "auto" not in (train.precision, train.channels_last, train.compile):
        return Decision(config)
    first = usual(train, process.device)
    eager = replace(first, compile="off") if train.compile == "auto" else first
    tried = variants(train, process.device, compile_too=thorough)
    key = profile_key(config, manifest, process)
    earlier = read_profile(key) if known and not thorough else {}
    measured = earlier.get("images") if earlier.keys() >= asdict(first).keys() else None
    assert isinstance(train.batch_size, int)
    steps = num_steps(config, manifest, process)
    if measured == train.batch_size:
        return _as_before(config, earlier, steps)
    if not thorough and steps * train.batch_size < _FEW_IMAGES:
        return Decision(eager.applied(config), f"{eager}: not measured, the run is short")
    if len(tried) == 1 and eager == first:
        return Decision(first.applied(config), f"{first}: this machine has no other variant")
    if not thorough and not train.auto_seconds:
        return Decision(first.applied(config), f"{first}: not measured, train.auto_seconds is 0")
    with Trial(config, manifest, process) as trial:
        until = float("inf")
        if not thorough:
            tried = [replace(one, compile="off") for one in tried]
            batch_seconds = _probe(trial, tried[0], train.batch_size)
            expected = steps * batch_seconds
            if expected < SHORT_SECONDS or (eager != first and expected < _COMPILED_SECONDS):
                return Decision(eager.applied(config), f"{eager}: not measured, the run is short")
            if len(tried) == 1:
                text = f"{first}: this machine has no other variant"
                return Decision(first.applied(config), text)
            until = began + min(train.auto_seconds, BUDGET_SHARE * expected)
            left = max(0.0, until - time.perf_counter())
            tried, size = _affordable(tried, train, batch_seconds, left)
            if isinstance(measured, int) and size < train.batch_size:
                return _as_before(config, earlier, steps)
            if not size:
                number = _num_steps(tried) * train.accumulate
                total = time.perf_counter() - began + number * batch_seconds
                text = (
                    f"{first}: not measured, because that would take {total:.1f} s"
                    f" ({number} batches of {train.batch_size} images), and the limit is"
                    f" {until - began:.1f} s"
                )
                return Decision(first.applied(config), text)
            trial.set_batch_size(size)
        compiled = None if thorough else first.compile
        return _race(config, trial, tried, compiled, partial(keep, key), until)


def _probe(trial: Trial, variant: Variant, batch_size: int) -> float:
    """The seconds of a step with the whole batch, estimated from a smaller batch if that is slow.

    The time of a very small batch is mostly overhead, so the batch grows until its step is long.
    """
    size = min(_PROBE_IMAGES, batch_size)
    while True:
        trial.set_batch_size(size)
        trial.step(variant)
        seconds = trial.step(variant)
        if size == batch_size or seconds >= _LONG_STEP:
            trial.set_batch_size(batch_size)
            return seconds * batch_size / size
        size = min(batch_size, size * _PROBE_GROWTH)


def _as_before(config: RunConfig, earlier: dict[str, Any], steps: int) -> Decision:
    """The choice in the profile. A short run is not compiled, whatever a long one chose."""
    train, rates = config.train, earlier.get("rates")
    chosen = Variant(**{name: earlier[name] for name in ("precision", "channels_last", "compile")})
    eager = replace(chosen, compile="off")
    shown, rate = figures(rates), None
    if shown and isinstance(rates, dict):
        rate = rates.get(str(chosen), rates.get(str(eager)))
    assert isinstance(train.batch_size, int)
    if train.compile == "auto" and rate and steps * train.batch_size < _COMPILED_SECONDS * rate:
        chosen = eager
    part = _part(earlier["images"], train)
    text = f"{chosen}: measured here on {earlier.get('date', 'an unknown day')}{part}"
    return Decision(chosen.applied(config), text + (f", {shown}" if shown else ""))


def _forget(key: str, found: dict[str, Any]) -> str:
    return ""


def _part(images: int, train: TrainConfig) -> str:
    whole = images == train.batch_size
    return "" if whole else f" with {images} of the {train.batch_size} images of a batch"


def _affordable(
    tried: list[Variant], train: TrainConfig, batch_seconds: float, budget: float
) -> tuple[list[Variant], int]:
    """The variants that the budget allows to measure, and the images in their batches; 0: none.

    The memory format is left out before the batches get smaller: precision matters more.
    """
    assert isinstance(train.batch_size, int)
    precisions = [one for one in tried if one.channels_last == tried[0].channels_last]
    share = 0.0
    for some in (tried, precisions):
        if len(some) > 1:
            tried = some
            share = budget / (_num_steps(some) * train.accumulate * batch_seconds)
            if share >= 1:
                return tried, train.batch_size
    size = int(share * train.batch_size)
    long = batch_seconds * size / train.batch_size >= _LONG_STEP
    return tried, size if long and size > 1 else 0


def _num_steps(tried: list[Variant]) -> int:
    return len(tried) * (rounds_needed(len(tried)) + 1)  # the first steps are not timed


def _first_steps(trial: Trial, tried: list[Variant]) -> dict[Variant, float]:
    """The seconds of a first step of each variant, without those that lack memory.

    The batch may fit with the usual variant alone: float32 needs up to twice as much memory as
    bfloat16.
    """
    found = {}
    for variant in tried:
        try:
            found[variant] = trial.step(variant)
        except (MemoryError, RuntimeError) as error:
            if variant == tried[0] or not lacks_memory(error):
                raise
        if variant not in found:
            trial.release()  # only now: the exception held tensors
    return found


def _race(
    config: RunConfig,
    trial: Trial,
    tried: list[Variant],
    compiled: Compile | None,
    keep: Callable[[dict[str, Any]], str],
    until: float,
) -> Decision:
    """Measure steps in turns, until the time is over or there are enough of them.

    `compiled` is the setting train.compile of the decision. None: that of the fastest variant.
    """
    began = time.perf_counter()
    first_steps = _first_steps(trial, tried)
    fitting = list(first_steps)
    running = [one for one in fitting if first_steps[one] <= _HOPELESS * first_steps[tried[0]]]
    rates: dict[Variant, list[float]] = {variant: [] for variant in fitting}
    for number in range(rounds_needed(len(tried))):
        if time.perf_counter() > until:
            break
        for variant in running:
            rates[variant].append(trial.batch_size / trial.step(variant))
        if number == 2:
            running = [one for one in running if not _is_slow(rates[one], rates[tried[0]])]
    seconds = time.perf_counter() - began
    finished = [rates[variant] for variant in running]
    chosen = running[fastest(finished)]
    chosen = chosen if compiled is None else replace(chosen, compile=compiled)
    named = {str(one): values for one, values in rates.items() if values}
    medians = {name: round(median(values), 3) for name, values in named.items()}
    listed = figures(medians)
    if lacking := [str(one) for one in tried if one not in first_steps]:
        listed += f"; out of memory: {', '.join(lacking)}"
    needed = rounds_needed(len(tried))
    part = _part(trial.batch_size, config.train)
    reason = f"{chosen}: measured in {seconds:.1f} s{part}, {listed}"
    if len(finished[0]) < needed:
        reason = (
            f"{chosen}, as usual: {needed} rounds may take {until - began:.1f} s, but"
            f" {len(finished[0])} of them{part} took {seconds:.1f} s"
        )
        return Decision(chosen.applied(config), reason, named)
    found = {**asdict(chosen), "images": trial.batch_size, "rates": medians}
    reason += keep(found)
    return Decision(chosen.applied(config), reason, named)


def _is_slow(rates: list[float], reference: list[float]) -> bool:
    return all(rate < _ELIMINATED * other for rate, other in zip(rates, reference, strict=True))
