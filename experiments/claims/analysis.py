"""How a claim is decided: intervals of its parts, and Holm's procedure over the claims.

A part is a difference between rows, in each replicate. Its verdict is read off its interval of
Student's t. A claim stands with the weakest of its parts, and many claims are tested: so its
verdict has a p value of its own, which Holm's procedure sets against those of its family.
All p values are twice those of the side that is asked for, so that they agree with the intervals.
"""

from typing import Literal, NamedTuple

from experiments.intervals import Estimate, interval, p_above, p_below

Kind = Literal["greater", "not-worse"]
Verdict = Literal["holds", "equivalent", "fails", "undecided"]
MOST_REPLICATES = 1000  # that are looked at, to say how many an undecided part would need


class Rule(NamedTuple):
    """What is asked of a difference, in points."""

    kind: Kind
    margin: float

    @property
    def threshold(self) -> float:
        """What the difference must lie above."""
        return -self.margin if self.kind == "not-worse" else 0.0


class PValues(NamedTuple):
    """How surprising the values would be, were each of the three verdicts wrong."""

    holds: float
    equivalent: float
    fails: float


def judge_part(found: Estimate, rule: Rule) -> Verdict:
    """The part's verdict, by its interval."""
    if found.low > rule.threshold:
        return "holds"
    if found.high < rule.threshold:
        return "fails"
    if rule.kind == "greater" and -rule.margin < found.low and found.high < rule.margin:
        return "equivalent"
    return "undecided"


def p_values_of_part(found: Estimate, rule: Rule) -> PValues:
    """The p values that belong to the part's interval."""
    within = max(p_above(found, -rule.margin), p_below(found, rule.margin))
    return PValues(
        holds=min(1.0, 2 * p_above(found, rule.threshold)),
        equivalent=min(1.0, 2 * within) if rule.kind == "greater" else 1.0,
        fails=min(1.0, 2 * p_below(found, rule.threshold)),
    )


def p_values_of_claim(parts: list[PValues]) -> PValues:
    """A claim holds where all of its parts do, and fails where any does.

    For all of them the largest p counts (an intersection-union test); for any of them the smallest,
    times their number (Bonferroni). It is equivalent where each part holds or is equivalent.
    """
    return PValues(
        holds=max(part.holds for part in parts),
        equivalent=max(min(part.holds, part.equivalent) for part in parts),
        fails=min(1.0, len(parts) * min(part.fails for part in parts)),
    )


def decide(family: dict[str, PValues], level: float, size: int) -> dict[str, Verdict]:
    """The verdicts on the claims of a family of `size`, which counts claims still to be run.

    Whether a claim holds or fails is decided by Holm's procedure: the smallest p is set against
    level / size, the next one against level / (size - 1), and so on, up to the first one that does
    not pass. What is left is equivalent where its p for that is at most level / size: it does not
    relax what the others are set against, since a claim without effect is rightly equivalent.
    """
    verdicts: dict[str, Verdict] = dict.fromkeys(family, "undecided")
    ordered = sorted(family, key=lambda key: min(family[key].holds, family[key].fails))

    for done, key in enumerate(ordered):
        share = level / (size - done)
        if min(family[key].holds, family[key].fails) > share:
            break
        verdicts[key] = "fails" if family[key].fails <= share else "holds"

    for key, p in family.items():
        if verdicts[key] == "undecided" and p.equivalent <= level / size:
            verdicts[key] = "equivalent"

    return verdicts


def replicates_needed(found: Estimate, rule: Rule) -> int | None:
    """How many replicates would just decide the part, were mean and deviation to stay as they are.

    They decide the comparison, not the claim, and not for certain. Where it then holds or fails,
    the mean lies at the edge, so that the chance is at least even; where it is equivalent, it may
    be less. None where even a thousand would not.
    """
    for count in range(2, MOST_REPLICATES + 1):
        more = interval(found.value, found.deviation, count)
        if judge_part(more, rule) != "undecided":
            return count
    return None
