"""What "auto" means for a run: a few real steps decide on precision, memory format, compilation.

In: a configuration with "auto" in it, the dataset's size, this process. Out: the configuration
without "auto", and the measured figures. Nothing is assumed from a processor's flags: bfloat16 is
1.8 times as fast as float32 on one processor with AVX-512 and 1.5 times slower on another.

All ways of doing the steps take turns on one trial model, so that a drift of the machine hits all
of them. The usual way is kept unless another is faster beyond the noise (`fastest`). A decision is
kept in the machine's profile (`slipform.pipelines.profile`), so the next run of the same net and
shape measures nothing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import date
from statistics import median

from slipform.pipelines.manifest import Manifest
from slipform.pipelines.measure import fastest, rounds_needed
from slipform.pipelines.profile import profile_path, read_profile, write_profile
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run.trial import Trial, Variant, profile_key, usual, variants

__all__ = ["Decision", "decide"]

_BUDGET_SHARE = 0.02  # of the time that the run is expected to take
_SHORT_SECONDS = 60.0  # a run that takes less is not measured
_FEW_STEPS = 300  # 2 % of fewer steps are too few to compare anything
_PROBE_IMAGES = 4
_HOPELESS = 4.0  # times as long as the usual way in the first step: no more steps of it
_ELIMINATED = 0.85  # of the usual way's speed in each of the first three rounds


@dataclass(frozen=True)
class Decision:
    """What was decided.

    Attributes:
        config: The configuration without "auto" in precision, channels_last and compile.
        reason: Why, in a sentence; "" where nothing was "auto".
        rates: Way of doing the steps -> its images/s, one for each turn; the usual way first. Ways
            that were far behind have fewer turns.
    """

    config: RunConfig
    reason: str = ""
    rates: dict[str, list[float]] = field(default_factory=dict)


def decide(
    config: RunConfig, manifest: Manifest, process: Process, *, thorough: bool = False
) -> Decision:
    """Replace "auto" in train.precision, train.channels_last and train.compile.

    Args:
        config: train.batch_size is a number. train.auto_seconds limits the measuring, which takes
            at most 2 % of the time that the run is expected to take.
        manifest: Of the dataset: its classes and training images.
        process: The device. With several processes the main one decides; call it there only.
        thorough: For `bench tune`: try compilation on a CPU too, ignore the profile and the run's
            length, and take the time that this needs.

    Returns:
        The decision. A run of less than a minute gets the usual way without measuring.
    """
    train = config.train
    if "auto" not in (train.precision, train.channels_last, train.compile):
        return Decision(config)
    first = usual(train, process.device)
    tried = variants(train, process.device, compile_too=thorough)
    key = profile_key(config, manifest, process)
    known = {} if thorough else read_profile(key)
    if known.keys() >= asdict(first).keys():
        chosen = Variant(**{name: known[name] for name in asdict(first)})
        when = known.get("date", "an unknown day")
        return Decision(chosen.applied(config), f"{chosen}: measured here on {when}")
    images = manifest.split("train").num_samples
    assert isinstance(train.batch_size, int)
    steps = train.epochs * (images // (train.batch_size * process.world_size))
    if len(tried) == 1:
        return Decision(first.applied(config), f"{first}: nothing else can be had here")
    if not thorough and (steps < _FEW_STEPS or not train.auto_seconds):
        return Decision(first.applied(config), f"{first}: not measured, the run is short")
    with Trial(config, manifest, process) as trial:
        if thorough:
            budget = float("inf")
        else:
            step_seconds = _probe(trial, first, train.batch_size)
            expected = steps * step_seconds
            if expected < _SHORT_SECONDS:
                return Decision(first.applied(config), f"{first}: not measured, the run is short")
            budget = min(train.auto_seconds, _BUDGET_SHARE * expected)
            size = _affordable(train.batch_size, step_seconds, len(tried), budget)
            if not size:  # precision matters more than the memory format
                tried = [one for one in tried if one.channels_last == first.channels_last]
                size = _affordable(train.batch_size, step_seconds, len(tried), budget)
            if not size or len(tried) == 1:
                text = f"{first}: not measured, {budget:.0f} s are too few for steps so long"
                return Decision(first.applied(config), text)
            trial.set_batch_size(size)
        return _race(config, trial, tried, key, budget)


def _probe(trial: Trial, variant: Variant, batch_size: int) -> float:
    """Seconds of a step of the whole batch, from a small one where a whole one takes long."""
    size = min(_PROBE_IMAGES, batch_size)
    while True:
        trial.set_batch_size(size)
        trial.step(variant)
        seconds = trial.step(variant) * batch_size / size
        if size == batch_size or seconds > 1:
            trial.set_batch_size(batch_size)
            return seconds
        size = batch_size


def _affordable(batch_size: int, step_seconds: float, ways: int, budget: float) -> int:
    """Images of a step, up to the run's, so that a race of this many ways fits into the budget; 0
    where not even two do."""
    needed = ways * (rounds_needed(ways) + 1) * step_seconds
    size = min(batch_size, int(batch_size * budget / needed))
    return size if size >= min(2, batch_size) else 0


def _race(
    config: RunConfig, trial: Trial, tried: list[Variant], key: str, budget: float
) -> Decision:
    """Steps in turns until the budget is spent or there are enough of them."""
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
        found = {**asdict(chosen), "rates": medians, "date": date.today().isoformat()}
        write_profile(profile_path(), key, found)
    return Decision(chosen.applied(config), reason, named)


def _is_slow(rates: list[float], reference: list[float]) -> bool:
    return all(rate < _ELIMINATED * other for rate, other in zip(rates, reference, strict=True))
