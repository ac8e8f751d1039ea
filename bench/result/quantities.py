"""The quantities of results: heading, unit, better direction and number format of each figure.

In: the name of a figure in a result file. Out: a `Quantity`. Values are in base units: images/s,
seconds, bytes, cores, shares of 1, pure numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from slipform.bench.result.result import Estimate, Value
from slipform.pipelines.executors import NAMES

__all__ = [
    "PER_IMAGE",
    "QUANTITIES",
    "Quantity",
    "case_heading",
    "case_text",
    "contestant",
    "digits",
    "is_ours",
    "quantity",
]

_Unit = Literal["images/s", "s", "bytes", "cores", "share", "ratio", "bytes/s", "flop/s"]
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_RATES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1.0, ""))
_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "bytes"))


@dataclass(frozen=True)
class Quantity:
    """The meaning of a figure.

    Attributes:
        heading: The heading in tables.
        unit: The base unit of its values.
        better: The better direction; None: changes of it get no verdict.
        within_run: Whether it is a ratio of two measurements of the same rounds. Such ratios can be
            compared between machines.
        decimals: The number of digits after the point; None: three significant digits.
    """

    heading: str
    unit: _Unit
    better: Literal["higher", "lower"] | None = None
    within_run: bool = False
    decimals: int | None = None

    def text(self, estimate: Estimate | None) -> str:
        """An estimate as text, such as "2,451 (2,400 to 2,480)" or "160 (155 to 171) ms".

        Args:
            estimate: The estimate. One with a single repeat has no interval. None gives "".
        """
        if estimate is None:
            return ""
        scale, sign = self._scale(estimate.median)
        write = self._digits
        median, low, high = (
            write(value / scale) for value in (estimate.median, estimate.low, estimate.high)
        )
        spread = "" if estimate.repeats == 1 else f" ({low} to {high})"
        return f"{median}{spread}{sign and ' '}{sign}"

    def number(self, value: float) -> str:
        """A value with its unit.

        Args:
            value: The value in the base unit.
        """
        scale, sign = self._scale(value)
        return f"{self._digits(value / scale)}{sign and ' '}{sign}"

    def _digits(self, value: float) -> str:
        return digits(value) if self.decimals is None else f"{value:,.{self.decimals}f}"

    def _scale(self, value: float) -> tuple[float, str]:
        """The size and the sign of a suitable unit for a value: (1e-3, "ms") for 0.16 s.

        The sign is "" for pure numbers, and if the heading has the unit (images/s, cores).
        """
        if self.unit == "share":
            return 0.01, "%"
        if self.unit in ("bytes/s", "flop/s"):
            scale, prefix = next(step for step in _RATES if abs(value) >= step[0] or step[1] == "")
            return scale, prefix + {"bytes/s": "B/s", "flop/s": "FLOP/s"}[self.unit]
        steps = {"s": _SECONDS, "bytes": _BYTES}.get(self.unit)
        if steps is None:
            return 1.0, ""
        if value == 0:
            return steps[-1] if self.unit == "bytes" else steps[0]
        return next((step for step in steps if abs(value) >= step[0]), steps[-1])


def digits(value: float) -> str:
    """A number with three significant digits, or an integer: "3.62", "50.7", "12,346".

    Args:
        value: The number.
    """
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 0.0995:
        return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"
    return format(Decimal(f"{value:.3g}"), "f")  # never with an exponent


def _rate(heading: str) -> Quantity:
    return Quantity(heading, "images/s", "higher")


def _seconds(heading: str) -> Quantity:
    return Quantity(heading, "s", "lower")


def _bytes(heading: str) -> Quantity:
    return Quantity(heading, "bytes", "lower")


QUANTITIES: dict[str, Quantity] = {
    "images_per_second": _rate("images/s"),
    "step_images_per_second": _rate("(a) step alone, images/s"),
    "loader_images_per_second": _rate("(b) loader alone, images/s"),
    "end_to_end_images_per_second": _rate("(c) end to end, images/s"),
    "torch_images_per_second": _rate("fed by torch DataLoader, images/s"),
    **{
        f"{precision}_{layout}{name}_images_per_second": _rate(
            f"{precision}, channels {layout}{compiled}, images/s"
        )
        for name, compiled in (("", ""), ("_compiled", ", compiled"))
        for precision in ("fp32", "bf16")
        for layout in ("last", "first")
    },
    **{f"{name}_images_per_second": _rate(f"{name}, images/s") for name in NAMES},
    "end_to_end_ratio": Quantity("c / a", "ratio", "higher", within_run=True),
    "gain_ratio": Quantity("multiple of the usual", "ratio", "higher", within_run=True),
    "cpu_cores": Quantity("cores used", "cores"),
    "wait_share": Quantity("waiting for data", "share"),
    "torch_wait_share": Quantity("waiting for torch DataLoader", "share"),
    "accuracy": Quantity("accuracy", "share", "higher", decimals=2),
    "precision_share": Quantity("precision", "share", "higher"),
    "recall_share": Quantity("recall", "share", "higher"),
    "average_precision_share": Quantity("average precision", "share", "higher"),
    "without_teacher_ratio": Quantity("of the speed without", "ratio", "higher", within_run=True),
    "plain_ratio": Quantity("time / without a policy", "ratio", "lower", within_run=True),
    "cost_ratio": Quantity("time with the record / without", "ratio", "lower", within_run=True),
    "answer_bytes": _bytes("bytes of an answer"),
    "fetched_bytes": _bytes("fetched in an epoch"),
    "epoch_requests": Quantity("requests in an epoch", "ratio", "lower", decimals=0),
    "mean_difference": Quantity("B - A, mean", "ratio", decimals=4),
    "a_result": Quantity("A", "ratio", decimals=4),
    "b_result": Quantity("B", "ratio", decimals=4),
    "seconds_to_target": _seconds("to target"),
    "train_seconds": _seconds("training"),
    "start_up_seconds": _seconds("start-up"),
    "test_seconds": _seconds("test"),
    "process_seconds": _seconds("whole process"),
    "data_wait_seconds": _seconds("waiting for data"),
    "first_batch_seconds": _seconds("first batch"),
    "compile_seconds": _seconds("compilation"),
    "copy_bytes_per_second": Quantity("copy", "bytes/s", "higher"),
    "product_flops_per_second": Quantity("product of matrices", "flop/s", "higher"),
    "consumer_seconds": _seconds("consumer's processor time per batch"),
    "batch_seconds": _seconds("time per batch"),
    "check_seconds": _seconds("check of a JPEG"),
    "check_ratio": Quantity("check / libjpeg-turbo", "ratio", "lower", within_run=True),
    "decode_seconds": _seconds("processor time of an image"),
    "decode_ratio": Quantity("slipform / this", "ratio", within_run=True),
    "next_batch_seconds": _seconds("waiting for a batch"),
    "epoch_start_seconds": _seconds("waiting for the first batch of an epoch"),
    "host_seconds": _seconds("processor time of all threads per batch, without rendering"),
    "feed_seconds": _seconds("processor time of feeding DALI, per batch"),
    "sample_seconds": _seconds("time per sample"),
    "first_epoch_sample_seconds": _seconds("time per sample, first epoch"),
    "auto_of_fastest_ratio": Quantity("auto / fastest", "ratio", "higher", within_run=True),
    "decision_seconds": _seconds("decision"),
    "sample_bytes": _bytes("memory per sample"),
    "slowest_worker_seconds": _seconds("slowest worker"),
    "requests": Quantity("requests", "ratio", "lower", decimals=0),
    "store_bytes": _bytes("to or from the store"),
    "modeled_seconds": _seconds("modeled"),
    "measured_seconds": _seconds("measured"),
    "modeled_requests": Quantity("requests, modeled", "ratio", decimals=0),
    "measured_requests": Quantity("requests, measured", "ratio", decimals=0),
    "fetched_ratio": Quantity("fetched / needed", "ratio", "lower"),
    "kept_share": Quantity("kept from the epoch before", "share", "higher"),
    "worker_bytes": _bytes("memory of a worker"),
    "cache_bytes": _bytes("cache of a worker"),
    "draw_seconds": _seconds("draw"),
    "render_seconds": _seconds("render"),
    "floor_seconds": Quantity("floor of render", "s"),
    "floor_ratio": Quantity("floor / render", "ratio", "higher", within_run=True),
    "passed_tests": Quantity("tests passed", "ratio", decimals=0),
    "failed_tests": Quantity("failed", "ratio", "lower", decimals=0),
    "error_tests": Quantity("errors", "ratio", "lower", decimals=0),
    "skipped_tests": Quantity("skipped", "ratio", decimals=0),
    "resident_bytes": _bytes("resident memory"),
    "above_imports_bytes": _bytes("of it above imports"),
    "device_used_bytes": _bytes("device memory used"),
    "allocated_bytes": _bytes("allocated"),
    "reserved_bytes": _bytes("reserved"),
}
PER_IMAGE = "_seconds_per_image"
_OURS = "slipform"
_CONTESTANTS = {
    _OURS: "Slipform",
    "dali_reader": "DALI reader",
    "ffcv_loader": "ffcv",
    "litdata": "LitData",
    "mosaic": "MosaicML Streaming",
    "spdl_loader": "SPDL",
    "turbo_loader": "TurboLoader",
    "timm_loader": "timm loader",
    "torch_dataloader": "torch DataLoader",
}
_MULTIPLE = "multiple_of_"
# The ends of names give the meaning of figures of a suite that is not listed above.
_ENDS = {
    "images_per_second": _rate(""),
    "_ratio": Quantity("", "ratio", "higher", within_run=True),
    "_share": Quantity("", "share"),
    "_seconds": _seconds(""),
    "_bytes": _bytes(""),
    "_cores": Quantity("", "cores"),
}


def quantity(name: str) -> Quantity:
    """The quantity of a figure.

    Args:
        name: A key of QUANTITIES, "multiple_of_PEER", "STAGE_seconds_per_image", or a name that
            ends with a base unit.

    Returns:
        The quantity. An unknown name gives a pure number without a better direction.
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    if name.startswith(_MULTIPLE):
        return Quantity(_words(name), "ratio", "higher", within_run=True)
    if name.endswith(PER_IMAGE):
        return Quantity(f"{_words(name.removesuffix(PER_IMAGE))}, per image", "s")
    for end, found in _ENDS.items():
        if name.endswith(end):
            unit = ", images/s" if found.unit == "images/s" else ""
            stem = name.removesuffix("images_per_second" if unit else end)
            return replace(found, heading=_words(stem).strip() + unit)
    return Quantity(_words(name), "ratio")


def contestant(name: str) -> str:
    """The usual name of a contestant: "slipform host" -> "Slipform host".

    Args:
        name: The name in a result file.
    """
    first, space, rest = name.partition(" ")
    return _CONTESTANTS.get(first, first) + space + rest


def is_ours(name: str) -> bool:
    """Whether a contestant, or a way of writing, is Slipform's.

    Args:
        name: The name in a result file.
    """
    return name.partition(" ")[0] == _OURS


def case_heading(name: str) -> str:
    """The heading of a part of the case: "batch_size" -> "batch size".

    Args:
        name: A key of `Row.case`.
    """
    return _words(name)


def case_text(value: Value) -> str:
    """The value of a part of the case, or of a setting, as text.

    Args:
        value: The value.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
