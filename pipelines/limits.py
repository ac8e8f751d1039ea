"""The largest numbers that a Loader accepts. Settings of a run have the same limits.

In: numbers. Out: nothing, or an error. A larger number is a mistake, or comes from an untrusted
recipe. Without the limits it would end in an error of the operating system.
"""

import operator

from slipform.pipelines.errors import ConfigError, nearest
from slipform.pipelines.toml_text import shown

__all__ = [
    "MAX_EPOCH", "MAX_PREFETCH", "MAX_SEED", "MAX_THREADS",
    "check_choices", "check_numbers", "whole",
]  # fmt: skip

MAX_SEED = 2**63 - 1  # torch and the Plan keep seeds in 64 bits
MAX_EPOCH = 2**31 - 1
MAX_THREADS = 1024
MAX_PREFETCH = 256  # batches


def whole(name: str, value: object) -> int:
    """A whole number, of Python or numpy.

    Args:
        name: Its name, for the error.
        value: The number.

    Raises:
        ConfigError: It is something else.
    """
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(f"{name} = {shown(value)}: give a whole number") from None


def check_numbers(
    seed: int, threads: int, prefetch: int, block: int, batch_size: int, rank: int, world_size: int
) -> None:
    """Check arguments of a Loader.

    Args:
        seed, threads, prefetch, block: As for `Loader`.
        batch_size, rank, world_size: The same; only that they are whole numbers.

    Raises:
        ConfigError: One of them is no whole number, is negative or is too large.
    """
    for name, value in (
        ("seed", seed),
        ("threads", threads),
        ("prefetch", prefetch),
        ("block", block),
        ("batch_size", batch_size),
        ("rank", rank),
        ("world_size", world_size),
    ):
        whole(name, value)
    given = f"seed = {seed}, threads = {threads}, prefetch = {prefetch}, block = {block}"
    if min(seed, threads, prefetch, block) < 0:
        raise ConfigError(f"{given}: give 0 or more")
    if seed > MAX_SEED or threads > MAX_THREADS or prefetch > MAX_PREFETCH:
        raise ConfigError(
            f"{given}: give at most {MAX_SEED}, {MAX_THREADS}, {MAX_PREFETCH} for the first three"
        )


def check_choices(
    augment: object,
    decode_scale: str,
    on_bad: str,
    decoder_share: float | str,
    split: object,
    executor: object,
    training: object,
) -> None:
    """Check arguments of a Loader.

    Args:
        augment, decode_scale, on_bad, decoder_share: As for `Loader`.
        split, executor, training: The same; only their types.

    Raises:
        ConfigError: One of them has a value that is not allowed.
    """
    for name, value in (("split", split), ("executor", executor)):
        if not isinstance(value, str):
            raise ConfigError(f"{name} = {shown(value)}: give a text")
    if training not in (True, False):
        raise ConfigError(f"training = {training!r}: give True or False")
    if augment is not None and not hasattr(augment, "resolved"):
        raise ConfigError(f"augment = {augment!r}: give an Augmentation, or None")
    if decode_scale not in ("auto", "off"):
        hint = nearest(str(decode_scale), ("auto", "off"))
        raise ConfigError(f'decode_scale = "{decode_scale}": give "auto" or "off".{hint}')
    if on_bad not in ("error", "skip"):
        hint = nearest(str(on_bad), ("error", "skip"))
        raise ConfigError(f'on_bad = "{on_bad}": give "error" or "skip".{hint}')
    number = isinstance(decoder_share, int | float)
    if decoder_share != "auto" and not (number and 0 <= float(decoder_share) <= 1):
        raise ConfigError(f'decoder_share = {decoder_share}: give 0 to 1, or "auto"')
