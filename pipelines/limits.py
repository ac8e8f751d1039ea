"""The largest numbers that a Loader accepts. Settings of a run have the same limits.

In: numbers. Out: nothing, or an error. A larger number is a mistake, or comes from an untrusted
recipe. Without the limits it would end in an error of the operating system.
"""

from slipform.pipelines.errors import ConfigError

__all__ = ["MAX_EPOCH", "MAX_PREFETCH", "MAX_SEED", "MAX_THREADS", "check_choices", "check_numbers"]

MAX_SEED = 2**63 - 1  # torch and the Plan keep seeds in 64 bits
MAX_EPOCH = 2**31 - 1
MAX_THREADS = 1024
MAX_PREFETCH = 256  # batches


def check_numbers(seed: int, threads: int, prefetch: int, block: int) -> None:
    """Check arguments of a Loader.

    Args:
        seed, threads, prefetch, block: As for `Loader`.

    Raises:
        ConfigError: One of them is negative or too large.
    """
    given = f"seed = {seed}, threads = {threads}, prefetch = {prefetch}, block = {block}"
    if min(seed, threads, prefetch, block) < 0:
        raise ConfigError(f"{given}: give 0 or more")
    if seed > MAX_SEED or threads > MAX_THREADS or prefetch > MAX_PREFETCH:
        raise ConfigError(
            f"{given}: give at most {MAX_SEED}, {MAX_THREADS}, {MAX_PREFETCH} for the first three"
        )


def check_choices(decode_scale: str, on_bad: str, decoder_share: float | str) -> None:
    """Check arguments of a Loader.

    Args:
        decode_scale, on_bad, decoder_share: As for `Loader`.

    Raises:
        ConfigError: One of them has a value that is not allowed.
    """
    if decode_scale not in ("auto", "off"):
        raise ConfigError(f'decode_scale = "{decode_scale}": give "auto" or "off"')
    if on_bad not in ("error", "skip"):
        raise ConfigError(f'on_bad = "{on_bad}": give "error" or "skip"')
    number = isinstance(decoder_share, int | float)
    if decoder_share != "auto" and not (number and 0 <= float(decoder_share) <= 1):
        raise ConfigError(f'decoder_share = {decoder_share}: give 0 to 1, or "auto"')
