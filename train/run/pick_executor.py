"""Choosing the executor for "auto" by a few batches, where the data do not fit into memory.

In: a configuration, the manifest of the dataset, this process. Out: the name of an executor, and
the reason. Decoded images that fit into memory need no choice: `resident` is the fastest then.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import ExitStack
from dataclasses import asdict
from importlib import metadata
from statistics import median

from slipform.pipelines.beton_format import JPG
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors import keeps, streaming
from slipform.pipelines.fastest import fastest, rounds_needed
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.mirror.folder import local_folder
from slipform.pipelines.profile import profile_key, read_profile
from slipform.pipelines.samples import open_samples
from slipform.train.config.image_sizes import training_augment
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.run.budget import BUDGET_SHARE, SHORT_SECONDS, figures, keep_choice, num_steps
from slipform.train.step.data import open_loader

__all__ = ["pick_executor"]

# Three executors make 21 batches in their first turns, which are 1.5 % of so many.
_FEW_STEPS = 1400
_BATCHES = 3  # in a turn
# A loader whose first turn takes this many times as long as that of the usual one is stopped.
_HOPELESS = 4.0
_UNTIMED = 4  # batches before them, until as many batches are under way as in training


def pick_executor(
    config: RunConfig, manifest: Manifest, process: Process, spent: float = 0.0
) -> tuple[str, str]:
    """Measure the executors that stream, in turns, on the first batches of the run.

    The usual executor is kept unless another is faster beyond the noise (`fastest`). The decision
    is written to the machine's profile, so the next run with these data and this size measures
    nothing. With train.image_sizes, the size is that of the first epoch.

    Args:
        config: The settings of the run; train.batch_size is a number. train.auto_seconds limits the
            time, which is also at most 2 % of the time that all batches of the run take.
        manifest: The manifest of the dataset.
        process: The main process; no other process takes part.
        spent: Seconds of the limit that were used before.

    Returns:
        The name and a sentence. ("", "") if nothing is to be chosen: data.executor is not "auto",
        the images fit into memory, `bench tune` has chosen, or the run is too short.
    """
    train, device = config.train, str(process.device)
    steps = num_steps(config, manifest, process)
    if config.data.executor != "auto" or steps < _FEW_STEPS or not train.auto_seconds:
        return "", ""
    fold = config.data.chosen_fold
    beton = open_samples(local_folder(config.data.folder), manifest, "train", fold).beton
    augment = training_augment(config, 1)  # of the batches that are measured
    stored = "jpeg" if (beton.modes == JPG).any() else "raw"
    tuned = profile_key(stored, augment.image_size, device)
    if keeps(beton, augment, device) or "executor" in read_profile(tuned):
        return "", ""
    work = [
        asdict(augment), config.data.decode_scale, train.precision, process.world_size,
        config.data.threads, config.data.prefetch, _dali(),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(work, default=str).encode()).hexdigest()[:8]
    key = f"{tuned}; {manifest.dataset}, {len(beton)} images; batch {train.batch_size}; {digest}"
    known, able = read_profile(key), streaming(beton, augment, device)
    if known.get("executor") in able:
        shown = figures(known.get("rates"))
        when = known.get("date", "an unknown day") + (f", {shown}" if shown else "")
        return known["executor"], f"executor {known['executor']}: measured here on {when}"
    began = time.perf_counter()
    # A request for each batch: several small batches would be there at the same time.
    data = config.data.model_copy(update={"prefetch": config.data.prefetch or 2})
    config = config.model_copy(update={"data": data})
    with ExitStack() as stack:
        loaders: dict[str, Loader] = {}
        for name in able:
            try:
                loader = open_loader(config, "train", process, training=True, executor=name)
                loaders[name] = stack.enter_context(loader)
            except ConfigError:  # it cannot do this work
                continue
        rates, decided = _race(loaders, steps, began, train.auto_seconds, spent)
    if not rates:
        return "", ""
    # Loaders that were stopped have fewer rounds.
    usual = next(iter(rates))
    running = [name for name in rates if len(rates[name]) == len(rates[usual])]
    chosen = running[fastest([rates[name] for name in running])]
    medians = {name: round(median(values), 1) for name, values in rates.items()}
    reason = f"executor {chosen}: measured, {figures(medians)}"
    if decided:
        reason += keep_choice(key, {"executor": chosen, "rates": medians})
    return chosen, reason


def _race(
    loaders: dict[str, Loader], steps: int, began: float, seconds: float, spent: float
) -> tuple[dict[str, list[float]], bool]:
    """Images per second of each loader in each round, and whether they are enough for a choice.

    The rates are {} if the run is short. Rounds end when the time since `began` is used up:
    `seconds`, or a share of the expected time of the run, without the seconds that are `spent`.
    """
    if len(loaders) < 2:
        return {}, False
    usual, *others = loaders
    start = time.perf_counter()
    first, _ = _turn(loaders[usual], math.inf)  # warms caches
    now = time.perf_counter()
    expected, turn = steps * loaders[usual].batch_size / first, now - start
    if expected < SHORT_SECONDS:
        return {}, False
    until = began + min(seconds, BUDGET_SHARE * expected) - spent
    rates, running = {usual: [first]}, [usual]
    for number, name in enumerate(others):
        share = (until - time.perf_counter()) / (len(others) - number)
        rate, ended = _turn(loaders[name], min(share, _HOPELESS * turn))
        rates[name] = [rate]
        running += [name] if ended else []
    if len(running) == 1:
        return rates, until - now > len(others) * _HOPELESS * turn
    rounds: list[list[float]] = []
    for _ in range(needed := rounds_needed(len(loaders))):
        found = [
            _turn(loaders[name], math.inf)[0] for name in running if time.perf_counter() < until
        ]
        if len(found) < len(running):  # the time is up, within this round
            break
        rounds.append(found)
    if rounds:
        rates |= {
            name: list(own) for name, own in zip(running, zip(*rounds, strict=True), strict=True)
        }
    return rates, len(rounds) == needed


def _dali() -> str:
    try:
        return metadata.version("nvidia-dali-cuda120")
    except metadata.PackageNotFoundError:
        return "none"


def _turn(loader: Loader, longest: float) -> tuple[float, bool]:
    """Images per second, on the same batches in each turn, and whether it ended within `longest`
    seconds. Otherwise it is stopped, and the rate is that of all its batches."""
    loader.set_epoch(0)
    loop, count = iter(loader), min(_UNTIMED + _BATCHES, len(loader))
    untimed = count - min(_BATCHES, max(1, count - 1))  # an epoch may have one batch
    times = [time.perf_counter()]
    for number in range(1, count + 1):
        next(loop)
        times.append(time.perf_counter())
        if times[-1] - times[0] > longest:
            return number * loader.batch_size / (times[-1] - times[0]), False
    return (count - untimed) * loader.batch_size / (times[-1] - times[untimed]), True
