"""`Verdict`: the results of a suite in one sentence, with its main number.

In: races between Slipform and a peer. Out: sentences. They claim a lead only if the interval of the
multiple excludes 1. The file of a suite makes its verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slipform.bench.result.quantities import contestant, digits, is_ours, quantity
from slipform.bench.result.result import Estimate, Row

__all__ = ["Lead", "Verdict", "lead", "leads_of", "of_leads"]

_RATE = "images_per_second"


@dataclass(frozen=True)
class Verdict:
    """The results of a suite in one sentence.

    Attributes:
        sentence: The sentence. That of the first suite is the headline of the page.
        value: The main number with its unit, such as "2.6 ×".
        meaning: A description of the number.
    """

    sentence: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Lead:
    """A comparison of Slipform with a peer.

    Attributes:
        where: The name of the race.
        ours: The row of Slipform.
        peer: The row of the peer.
        multiple: The speed of Slipform divided by that of the peer, within each round.
    """

    where: str
    ours: Row
    peer: Row
    multiple: Estimate

    @property
    def text(self) -> str:
        """As text: "caltech101, streaming: Slipform host 4,656 images/s, ffcv 2,240"."""
        names = [contestant(_name(row)) for row in (self.ours, self.peer)]
        rates = [
            quantity(_RATE).number(row.figures[_RATE].median) for row in (self.ours, self.peer)
        ]
        return f"{self.where}: {names[0]} {rates[0]} images/s, {names[1]} {rates[1]}"


def lead(where: str, ours: Row, peer: Row) -> Lead:
    """Compare Slipform with a peer.

    If the row has no multiple of this peer, its interval is the widest one that the intervals of
    both rates allow.

    Args:
        where: The name of the race.
        ours: The row of Slipform, with figures.
        peer: The row of the peer, with figures.
    """
    short = _name(peer).removesuffix("_loader").split(" ")[0]
    multiple = ours.figures.get(f"multiple_of_{short}")
    if multiple is None:
        a, b = ours.figures[_RATE], peer.figures[_RATE]
        multiple = Estimate(
            median=a.median / b.median,
            low=a.low / b.high,
            high=a.high / b.low,
            repeats=min(a.repeats, b.repeats),
        )
    return Lead(where, ours, peer, multiple)


def leads_of(races: Iterable[tuple[str, Sequence[Row]]]) -> list[Lead]:
    """Compare the fastest contestant of Slipform with the fastest other one, in each race.

    Args:
        races: The name of each race, and its rows with figures.

    Returns:
        The comparison of each race that has both.
    """
    found = []
    for where, rows in races:
        ordered = sorted(rows, key=lambda row: -row.figures[_RATE].median)
        ours = [row for row in ordered if is_ours(_name(row))]
        theirs = [row for row in ordered if row not in ours]
        if ours and theirs:
            found.append(lead(where, ours[0], theirs[0]))
    return found


def of_leads(leads: Sequence[Lead], does: str, rival: str) -> Verdict | None:
    """Make the verdict of comparisons with peers.

    Args:
        leads: The comparison of each race.
        does: The task of the races, such as "loads images".
        rival: A description of the peers, such as "the fastest other loader".

    Returns:
        The verdict; its number is the smallest multiple. None if there are no races.
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
    """The multiple with two digits: "2.6", "27", "0.44"."""
    times = one.multiple.median
    return f"{times:,.0f}" if times >= 9.95 else f"{times:.1f}" if times >= 0.995 else digits(times)


def _name(row: Row) -> str:
    """The name of the contestant or of the way of writing."""
    return str(row.case.get("loader", row.case.get("way", "")))
