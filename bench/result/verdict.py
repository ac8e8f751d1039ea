"""What results say in a sentence, and the numbers that carry it: `Verdict`.

In: races of one of ours and a peer. Out: sentences that claim a lead only where the interval of the
multiple does. A suite's own verdict is made in its file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipform.bench.result.quantities import contestant, digits, quantity
from slipform.bench.result.result import Estimate, Row

RATE = "images_per_second"


@dataclass(frozen=True)
class Verdict:
    """What the results of a suite say.

    Args:
        sentence: The whole of it; the headline of the page, where the suite is the first.
        value: The number that carries it, with its unit: "2.6 ×".
        meaning: What the number is, and of what.
    """

    sentence: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Lead:
    """One of ours beside a peer.

    Args:
        where: The race.
        ours: The row of ours.
        peer: The row of the peer.
        multiple: How many times as fast ours was, formed within each round.
    """

    where: str
    ours: Row
    peer: Row
    multiple: Estimate

    @property
    def text(self) -> str:
        """ "caltech101, streaming: Slipform host 4,656 images/s, ffcv 2,240"."""
        names = [contestant(_name(row)) for row in (self.ours, self.peer)]
        rates = [quantity(RATE).number(row.figures[RATE].median) for row in (self.ours, self.peer)]
        return f"{self.where}: {names[0]} {rates[0]} images/s, {names[1]} {rates[1]}"


def lead(where: str, ours: Row, peer: Row) -> Lead:
    """Ours beside a peer. Where no multiple of this peer was formed within the rounds, the widest
    that both intervals allow is taken.

    Args:
        where: The race.
        ours: A row with figures.
        peer: Another.
    """
    short = _name(peer).removesuffix("_loader").split(" ")[0]
    multiple = ours.figures.get(f"multiple_of_{short}")
    if multiple is None:
        a, b = ours.figures[RATE], peer.figures[RATE]
        multiple = Estimate(
            median=a.median / b.median,
            low=a.low / b.high,
            high=a.high / b.low,
            repeats=min(a.repeats, b.repeats),
        )
    return Lead(where, ours, peer, multiple)


def of_leads(leads: Sequence[Lead], does: str, rival: str) -> Verdict | None:
    """The verdict of races against peers.

    Args:
        leads: One for each race.
        does: What is raced: "loads images".
        rival: Whom ours is compared with where there are several races: "the fastest other loader".

    Returns:
        The verdict, with the smallest lead as its number; None where nothing was raced.
    """
    if not leads:
        return None
    ordered = sorted(leads, key=lambda one: one.multiple.median)
    won = [one for one in leads if one.multiple.low > 1]
    lost = [one for one in leads if one.multiple.high < 1]
    first, last = (_times(one) for one in (ordered[0], ordered[-1]))
    if len(won) == len(leads):
        peers = list(dict.fromkeys(contestant(_name(one.peer)) for one in leads))
        against = f"{peers[0]}, {rival}" if len(peers) == 1 else rival
        times = first if first == last else f"{first} to {last}"
        sentence = f"Slipform {does} {times} times as fast as {against}."
    else:
        even = len(leads) - len(won) - len(lost)
        parts = [f"faster than {rival} in {len(won)} of {len(leads)} races"]
        parts += [f"slower in {len(lost)}"] if lost else []
        parts += [f"no difference shows in {even}"] if even else []
        sentence = f"Slipform {does} {'; '.join(parts)}."
    spread = quantity("multiple_of_").text(ordered[0].multiple).partition(" (")[2].rstrip(")")
    interval = f"; 95 % interval {spread}" if spread else ""
    race = "" if len(leads) == 1 else ", in the closest race"
    return Verdict(
        sentence,
        f"{first} ×",
        f"as fast as {rival}{race}. {ordered[0].text}{interval}",
    )


def _times(one: Lead) -> str:
    """Two digits: "2.6", "27", "0.44"."""
    times = one.multiple.median
    return f"{times:,.0f}" if times >= 9.95 else f"{times:.1f}" if times >= 0.995 else digits(times)


def _name(row: Row) -> str:
    """A contestant's, or a way's of writing."""
    return str(row.case.get("loader", row.case.get("way", "")))
