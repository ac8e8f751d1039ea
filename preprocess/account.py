"""The account: what `prep` found, printed before it writes anything.

In: a SampleSource and the Encoding. Out: lines for the terminal and for dataset.json. After
writing: the text of report.txt, which also names every file that was left out, rejected or damaged.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from slipform.pipelines.errors import printable
from slipform.pipelines.manifest import Manifest
from slipform.preprocess.atomic_folder import REJECTED, REPORT
from slipform.preprocess.balance import balance
from slipform.preprocess.chunk import Rejected
from slipform.preprocess.encode import Encoding
from slipform.preprocess.listing import Listing, some
from slipform.preprocess.local_folder import LocalFolder
from slipform.preprocess.places import Out, Place, place_of
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.source import Arrays, Generated, SampleSource
from slipform.preprocess.survey import size_of

__all__ = ["account", "closing_words", "named", "report", "shard_words"]

_ADVICE_PIXELS = 2_000_000  # from here on the account advises smaller images
_LOOKED_AT = 15  # number of images whose headers are read for their size
_LABELS = {"multi": "any number for each image", "soft": "shares of classes for each image"}
_SHOWN = 8  # number of damaged samples that are named
_MAX_REPORT = 1 << 30  # bytes
_DAMAGED = "damaged, but stored"


def account(source: SampleSource, encoding: Encoding) -> list[str]:
    """Describe what will be written.

    Args:
        source: The dataset.
        encoding: How its samples will be stored.

    Returns:
        Lines without control characters. Important ones begin with "warning".
    """
    lines = [f"layout: {source.listing.layout}"] if source.listing.layout else []
    lines.append(f"classes: {len(source.classes):,} ({some(source.classes)})")
    lines += _files(source.listing)
    if source.label_kind != "single":
        lines.append(f"labels: {_LABELS[source.label_kind]}")
    sizes = ", ".join(f"{name} {len(s.labels):,}" for name, s in source.splits.items())
    lines.append(f"splits: {sizes} images ({printable(source.split_rule)})")
    missing = [name for name in ("val", "test") if name not in source.splits]
    if missing:
        lines.append(f"warning: there is no image in: {', '.join(missing)}")
    lines += [f"note: {printable(note)}" for note in source.listing.notes]
    lines += [f"warning: {printable(warning)}" for warning in source.listing.warnings]
    lines += balance(source)
    if large := _large(source, encoding):
        lines.append(large)
    return lines


def report(
    manifest: Manifest,
    left_out: Iterable[tuple[str, str]],
    rejected: Sequence[tuple[str, Rejected]],
    damaged: Sequence[tuple[str, Rejected]],
) -> str:
    """The text of report.txt: the account, the conversions, and files left out, bad or damaged.

    Args:
        manifest: The manifest of the dataset.
        left_out: Path and reason of each file that was not taken as an image.
        rejected: Split and sample of each sample that was not stored.
        damaged: Split and sample of each sample that was stored although its decoder warns.
    """
    text = [*manifest.account, *_conversions(manifest)]
    if paths := sorted(left_out):
        text += ["", "left out:", *(f"  {printable(path)}: {reason}" for path, reason in paths)]
    for title, samples in (("rejected", rejected), (_DAMAGED, damaged)):
        if samples:
            text += ["", f"{title}:", *named(samples)]
    return "\n".join(text) + "\n"


def shard_words(shard: Shard, manifest: Manifest, written: bool, out: Out) -> list[str]:
    """Describe a shard that is finished.

    Args:
        shard: The shard.
        manifest: The manifest of this shard alone.
        written: Whether it was written now. False: it was finished before.
        out: The dataset folder.

    Returns:
        Lines without control characters.
    """
    done = "written" if written else "was finished before, and its checksums are right"
    return [
        f"shard {shard}: {done}",
        *(f"{name}: {info.num_samples:,} images" for name, info in manifest.splits.items()),
        f"after all {shard.count} shards: slipform prep merge {shlex.quote(printable(str(out)))}",
    ]


def closing_words(manifest: Manifest, out: Out) -> list[str]:
    """Describe what was written.

    Args:
        manifest: The manifest of the dataset.
        out: The dataset folder.

    Returns:
        Lines without control characters. Important ones begin with "warning".
    """
    place = place_of(out)
    lines = [
        f"{name}: {info.num_samples:,} images, {info.bytes / 1e6:,.1f} MB"
        for name, info in manifest.splits.items()
    ]
    lines += _conversions(manifest)
    if manifest.rejected:
        lines.append(f"left out: {manifest.rejected:,} images, listed in {place}/{REJECTED}")
    if manifest.damaged:
        lines.append(
            f"warning: {manifest.damaged:,} JPEGs are damaged. Their decoder only warns, so they"
            " are stored. --strict rejects them:"
        )
        lines += _damaged(place)
    shown = printable(str(place))
    lines.append(f"{len(manifest.classes)} classes -> {shown}")
    folder = shlex.quote(shown)
    figure = f" --figure {folder}.png" if isinstance(place, LocalFolder) else ""
    return [
        *lines,
        f"report: {shown}/{REPORT}",
        "next:",
        f"  slipform prep show {folder}{figure}",
        f"  slipform train {folder}",
    ]


def _conversions(manifest: Manifest) -> list[str]:
    """The lines about images that were changed."""
    lines = []
    if manifest.converted:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in manifest.converted.items())
        lines.append(f"converted: {reasons}")
    return lines + [
        f"warning: {number:,} images use only {bits} of their 16 bits and become dark. If they were"
        f" recorded with {bits} bits, run prep again with --bits {bits}"
        for bits in (8, 10, 12)
        if (number := manifest.converted.get(f"only {bits} of 16 bits used"))
    ]


def _damaged(place: Place) -> list[str]:
    """The first damaged samples, from report.txt."""
    content = place.read(REPORT, _MAX_REPORT, "a report").decode()
    _, _, rest = content.partition(f"\n{_DAMAGED}:\n")
    found = rest.splitlines()
    more = [f"  and {len(found) - _SHOWN:,} more, listed in {place}/{REPORT}"]
    return found[:_SHOWN] + (more if len(found) > _SHOWN else [])


def named(samples: Sequence[tuple[str, Rejected]]) -> list[str]:
    """One line for each sample: its split, its name, and what is wrong with it.

    Args:
        samples: Split and sample.
    """
    return [f"  {split} {printable(s.name)}: {printable(s.reason)}" for split, s in samples]


def _files(listing: Listing) -> list[str]:
    """The lines about files: used ones, links, and those that were left out."""
    if not listing.used:
        return []
    kinds = ", ".join(f"{number:,} {ending}" for ending, number in listing.used.most_common())
    lines = [f"files: {listing.used.total():,} images ({printable(kinds)})"]
    if listing.linked:
        lines.append(
            f"links: {len(listing.linked):,} linked folders followed: {some(listing.linked)}"
        )
    reasons = Counter(reason for _, reason in listing.left_out)
    for reason, number in reasons.most_common():
        paths = [path for path, why in listing.left_out if why == reason]
        lines.append(f"left out: {number:,} x {reason}: {some(paths)}")
    return lines


def _large(source: SampleSource, encoding: Encoding) -> str:
    """A note about large images: training would be much faster with reduced ones."""
    train = source.splits["train"]
    if isinstance(train, Arrays | Generated) or encoding.shorter_side or encoding.max_side:
        return ""
    step = -(-len(train.labels) // _LOOKED_AT)
    sizes = (size_of(train, index) for index in range(0, len(train.labels), step))
    pixels = [size[0] * size[1] for size in sizes if size]
    if not pixels or (typical := median(pixels)) < _ADVICE_PIXELS:
        return ""
    return (
        f"note: the images are large, about {typical / 1e6:.0f} megapixels. train reads them many"
        " times faster after prep --shorter-side 512"
    )
