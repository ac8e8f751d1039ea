"""Choosing precision, memory format and compilation for "auto", by a few real steps.

In: a configuration with "auto", the size of the dataset, this process. Out: the configuration
without "auto", and the measurements. The flags of a processor do not tell the speed: bfloat16 is
1.8 times as fast as float32 on one processor with AVX-512, and 1.5 times slower on another.

All variants are measured in turns on one trial model, so that a drift of the machine's speed
affects all of them. The usual variant is kept unless another is faster beyond the noise
(`fastest`). The decision is written to the machine's profile (`slipform.pipelines.profile`), so the
next run with the same net and shape measures nothing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from statistics import median

from slipform.pipelines.fastest import fastest, rounds_needed
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.profile import read_profile
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run.budget import BUDGET_SHARE, keep_choice, num_steps
from slipform.train.run.trial import Trial, Variant, profile_key, usual, variants

__all__ = ["Decision", "decide"]

_SHORT_SECONDS = 60.0  # nothing is measured for a shorter run
# On a GPU a run that would be shorter than this is not compiled: that takes up to a minute, and
# saves about a third of the time of the steps.
_COMPILED_SECONDS = 180.0
# Nets that need a minute for fewer images are rare, and a trial model costs time.
_FEW_IMAGES = 500
_PROBE_IMAGES = 4  # the first batch of the probe; each later one is _PROBE_GROWTH times as large
_PROBE_GROWTH = 8
_PROBE_SECONDS = 0.5  # a step of this length is not only overhead
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
    """

    config: RunConfig
    reason: str = ""
    rates: dict[str, list[float]] = field(default_factory=dict)


def decide(
    config: RunConfig,
    manifest: Manifest,
    process: Process,
    *,
    thorough: bool = False,
    known: bool = True,
) -> Decision:
    """Replace "auto" in train.precision, train.channels_last and train.compile.

    Args:
        config: The configuration; train.batch_size is a number. train.auto_seconds limits the time
            of the measurement, which also takes at most 2 % of the expected time of the run.
        manifest: The manifest of the dataset.
        process: The main process; its device. With several processes, call this there only.
        thorough: For `bench tune`: also try compilation on a CPU, ignore the profile and the length
            of the run, and have no time limit.
        known: Whether a choice in the profile is taken without a measurement.

    Returns:
        The decision. A run of less than a minute gets the usual variant without a measurement.
    """
    train = config.train
    if "auto" not in (train.precision, train.channels_last, train.compile):
        return Decision(config)
    first = usual(train, process.device)
    eager = replace(first, compile="off") if train.compile == "auto" else first
    tried = variants(train, process.device, compile_too=thorough)
    key = profile_key(config, manifest, process)
    earlier = read_profile(key) if known and not thorough else {}
    if earlier.keys() >= asdict(first).keys():
        chosen = Variant(**{name: earlier[name] for name in asdict(first)})
        when = earlier.get("date", "an unknown day")
        return Decision(chosen.applied(config), f"{chosen}: measured here on {when}")
    assert isinstance(train.batch_size, int)
    steps = num_steps(config, manifest, process)
    if not thorough and steps * train.batch_size < _FEW_IMAGES:
        return Decision(eager.applied(config), f"{eager}: not measured, the run is short")
    if len(tried) == 1 and eager == first:
        return Decision(first.applied(config), f"{first}: this machine has no other variant")
    if not thorough and not train.auto_seconds:
        return Decision(first.applied(config), f"{first}: not measured, train.auto_seconds is 0")
    with Trial(config, manifest, process) as trial:
        if thorough:
            budget = float("inf")
        else:
            # Each size of the probe would be compiled.
            step_seconds = _probe(trial, replace(eager, compile="off"), train.batch_size)
            expected = steps * step_seconds
            if expected < _SHORT_SECONDS or (eager != first and expected < _COMPILED_SECONDS):
                return Decision(eager.applied(config), f"{eager}: not measured, the run is short")
            if len(tried) == 1:
                text = f"{first}: this machine has no other variant"
                return Decision(first.applied(config), text)
            budget = min(train.auto_seconds, BUDGET_SHARE * expected)
            size = _affordable(train.batch_size, step_seconds, len(tried), budget)
            if not size:  # leave out the memory format: precision matters more
                tried = [one for one in tried if one.channels_last == first.channels_last]
                size = _affordable(train.batch_size, step_seconds, len(tried), budget)
            if not size or len(tried) == 1:
                text = f"{first}: not measured, {budget:.0f} s are too short for such long steps"
                return Decision(first.applied(config), text)
            trial.set_batch_size(size)
        return _race(config, trial, tried, key, budget)


def _probe(trial: Trial, variant: Variant, batch_size: int) -> float:
    """The seconds of a step with the whole batch, estimated from a smaller batch if that is slow.

    The time of a very small batch is mostly overhead, so the batch grows until its step is long.
    """
    size = min(_PROBE_IMAGES, batch_size)
    while True:
        trial.set_batch_size(size)
        trial.step(variant)
        seconds = trial.step(variant)
        if size == batch_size or seconds >= _PROBE_SECONDS:
            trial.set_batch_size(batch_size)
            return seconds * batch_size / size
        size = min(batch_size, size * _PROBE_GROWTH)


def _affordable(batch_size: int, step_seconds: float, ways: int, budget: float) -> int:
    """The number of images in a step so that all variants fit into the budget.

    It is at most the batch size of the run; 0 if two images are too many.
    """
    needed = ways * (rounds_needed(ways) + 1) * step_seconds
    size = min(batch_size, int(batch_size * budget / needed))
    return size if size >= min(2, batch_size) else 0


def _race(
    config: RunConfig, trial: Trial, tried: list[Variant], key: str, budget: float
) -> Decision:
    """Measure steps in turns, until the budget is used up or there are enough of them."""
    began = time.perf_counter()
    first_steps = {variant: trial.step(variant) for variant in tried}
    running = [one for one in tried if first_steps[one] <= _HOPELESS * first_steps[tried[0]]]
    rates: dict[Variant, list[float]] = {variant: [] for variant in tried}
    for number in range(rounds_needed(len(tried))):
        if time.perf_counter() - began > budget:
            break
        for variant in running:
            rates[variant].append(trial.batch_size / trial.step(variant))
        if number == 2:
            running = [one for one in running if not _is_slow(rates[one], rates[tried[0]])]
    seconds = time.perf_counter() - began
    finished = [rates[variant] for variant in running]
    chosen = running[fastest(finished)]
    named = {str(one): values for one, values in rates.items() if values}
    medians = {name: round(median(values), 3) for name, values in named.items()}
    listed = "; ".join(f"{name} {rate:.3g}" for name, rate in medians.items())
    size = "" if trial.batch_size == config.train.batch_size else f", batch {trial.batch_size}"
    reason = f"{chosen}: measured in {seconds:.1f} s, in images/s{size}: {listed}"
    if len(finished[0]) == rounds_needed(len(tried)):
        reason += keep_choice(key, {**asdict(chosen), "rates": medians})
    return Decision(chosen.applied(config), reason, named)


def _is_slow(rates: list[float], reference: list[float]) -> bool:
    return all(rate < _ELIMINATED * other for rate, other in zip(rates, reference, strict=True))
