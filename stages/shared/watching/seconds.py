"""How long each stage took when it last ran in this workspace: what a result has cost.

Seconds differ from run to run, and a result must not: so they are in no output of DVC's.
"""

from collections.abc import Collection
from pathlib import Path

FOLDER = Path(".work/seconds")


def note_seconds(stage: str, seconds: float) -> None:
    """Keep what a stage took, by the name that DVC calls it: train@diffmix."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / stage).write_text(f"{seconds:.1f}\n")


def read_seconds(arms: Collection[str]) -> dict[str, float]:
    """What each stage took, the longest first; a stage that never ran here has none.

    Nor has one that found the disk full, and left its file empty. Of arms that are none of `arms`,
    since an earlier run had others, nothing is told.
    """
    taken = {
        path.name: float(text)
        for path in FOLDER.glob("*")
        if (text := path.read_text())
        and ("@" not in path.name or path.name.partition("@")[2] in arms)
    }
    return dict(sorted(taken.items(), key=lambda entry: (-entry[1], entry[0])))


def tell_seconds(taken: dict[str, float]) -> str:
    """One line: all together, and each stage that took at least a second."""
    minutes, seconds = divmod(round(sum(taken.values())), 60)
    stages = ", ".join(f"{stage} {value:.0f}" for stage, value in taken.items() if value >= 1)
    return f"{minutes} min {seconds} s when each stage last ran here; in seconds: {stages}"
