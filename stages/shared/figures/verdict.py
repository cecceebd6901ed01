"""What a run says: did it help, where, at whose cost; for the first screen of the report."""

from math import isnan, sqrt
from typing import Any, NamedTuple

import pandas as pd

LOSS = 10.0  # points that a class must lose to be named
CHANCE = 2.0  # standard errors that it must lose, so that a few test images are no loss
NAMED = 5  # losers at most
MISTAKES = 8  # pairs of classes at most
FEWEST = 10  # test images of a class whose mistakes are listed
CHANGE = "change of the arm"  # a row's; no arm's name has a space


class Change(NamedTuple):
    """A measure of the baseline and of the arm, in percent; the difference, its 95 % interval."""

    title: str
    before: float
    after: float
    gain: float
    interval: list[float] | None = None
    images: int = 0  # test images, where they matter

    @property
    def is_loss(self) -> bool:
        """Whether it is large, and more than the few images' chance."""
        shares = (self.before / 100, self.after / 100)
        variance = sum(share * (1 - share) for share in shares) / max(self.images, 1)
        return self.gain < -max(LOSS, CHANCE * 100 * sqrt(variance))


class Verdict(NamedTuple):
    """An arm against the baseline."""

    arm: str
    top1: Change
    places: list[Change]  # where it may help most: few-shot classes, the worst Waterbird group
    losers: list[Change]  # classes, the greatest loss first
    classes: int


def judge_arm(
    arm: str,
    arms: dict[str, Any],
    gain: dict[str, Any],
    per_class: list[dict[str, Any]],
    images: dict[str, int],
) -> Verdict:
    """The arm's verdict, of what metrics/evaluate.json and per_class.csv hold.

    `images`: the test images of each class.
    """
    base = arms["baseline"]
    own = arms[arm]
    gained = gain[arm]
    top1 = Change("top-1", base["top1"], own["top1"], gained["top1"], gained.get("top1_ci"))

    places = []
    if "few" in gained:
        measured = (base["few"], own["few"], gained["few"], gained.get("few_ci"))
        places.append(Change("few-shot classes", *measured))
    if "waterbird_worst" in gained:
        worst = (base["waterbird"]["worst"], own["waterbird"]["worst"])
        measured = (*worst, gained["waterbird_worst"], gained.get("waterbird_worst_ci"))
        places.append(Change("the worst Waterbird group", *measured))

    classes = by_class(arm, per_class, images)
    losers = [each for each in classes if each.is_loss]
    return Verdict(arm, top1, places, losers, len(classes))


def by_class(arm: str, per_class: list[dict[str, Any]], images: dict[str, int]) -> list[Change]:
    """Each class's change, the greatest loss first; classes without test images are left out."""
    changes = []
    for row in per_class:
        if not isnan(row["baseline"]):
            name, before, after = row["class"], row["baseline"], row[arm]
            changes.append(Change(name, before, after, after - before, images=images[name]))
    return sorted(changes, key=lambda change: change.gain)


def sort_classes(per_class: list[dict[str, Any]], arm: str) -> list[dict[str, Any]]:
    """The rows with the arm's change, the greatest loss first, those without one last."""
    rows = []
    for row in per_class:
        change = row[arm] - row["baseline"]
        rows.append(row | {CHANGE: None if isnan(change) else change})

    return sorted(rows, key=lambda row: (row[CHANGE] is None, row[CHANGE] or 0.0))


def list_mistakes(
    arm: str, confusion: pd.DataFrame, images: dict[str, int]
) -> list[dict[str, Any]]:
    """The commonest mistakes of the baseline or the arm, with each one's share in percent.

    `confusion` is metrics/plots/confusion.csv; a pair that it does not list is no mistake made.
    Classes of very few test images are left out: one of them would be a large share.
    """
    enough = {name for name, count in images.items() if count >= FEWEST}
    confusion = confusion[confusion["actual"].isin(enough)]
    wrong = confusion[confusion["actual"] != confusion["predicted"]]
    wrong = wrong[wrong["arm"].isin(["baseline", arm])]
    if wrong.empty:
        return []

    pairs = wrong.pivot(index=["actual", "predicted"], columns="arm", values="percent")
    pairs = pairs.reindex(columns=["baseline", arm]).fillna(0.0)
    ordered = pairs.loc[pairs.max(axis=1).sort_values(ascending=False, kind="stable").index]

    return [
        {"actual": actual, "predicted": predicted, "before": before, "after": after}
        for (actual, predicted), (before, after) in zip(
            ordered.index[:MISTAKES], ordered.to_numpy()[:MISTAKES], strict=True
        )
    ]


def tell_gain(verdict: Verdict, method: str) -> str:
    """Did it help? In one sentence."""
    top1 = verdict.top1
    low, high = top1.interval or (0.0, 0.0)

    verb = "moves"
    if low > 0:
        verb = "raises"
    elif high < 0:
        verb = "lowers"

    points = f"{signed(top1.gain)} points"
    if top1.interval:
        points += f", 95 % interval {between(top1.interval)}"
        if low <= 0 <= high:
            points += ", which leaves open whether it helps"
    return f"{method} {verb} top-1 from {top1.before:.1f} to {top1.after:.1f} % ({points})."


def tell_places(places: list[Change]) -> str:
    """Where? Nothing where there is neither a few-shot class nor a Waterbird group."""
    parts = []
    for place in places:
        part = f"{place.title} {place.before:.1f} → {place.after:.1f}"
        if place.interval:
            part += f" ({signed(place.gain)}, {between(place.interval)})"
        parts.append(part)

    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def tell_losers(verdict: Verdict) -> str:
    """At whose cost?"""
    losers = verdict.losers
    if not losers:
        return (
            f"None of {verdict.classes} classes loses more than {LOSS:g} points beyond what chance "
            "does with so many test images."
        )

    names = [f"{each.title} {each.before:.1f} → {each.after:.1f}" for each in losers[:NAMED]]
    if len(losers) > NAMED:
        names.append(f"and {len(losers) - NAMED} more")
    plural = "s" if len(losers) == 1 else ""
    lose = f"lose{plural} more than {LOSS:g} points"
    return f"{len(losers)} of {verdict.classes} classes {lose}: {', '.join(names)}."


def signed(value: float, digits: int = 1) -> str:
    """The value with its sign, a true minus, and no sign at zero."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text[1:]


def between(interval: list[float]) -> str:
    return f"{signed(interval[0])} to {signed(interval[1])}"
