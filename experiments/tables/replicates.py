"""Replicates: the whole pipeline under seeds of its own.

Another `seed` redraws all that chance decides: training rows, fine-tuning, plan, images and
classifiers. A result that is published across experiments is a mean over replicates, and its
interval comes from how they differ. Rows of one replicate have the same seed, so they are paired.
"""

import copy
import os

from experiments.tables.recipes import Case
from stages.shared.errors import BadInput

SPACING = 10  # between the seeds of replicates: the trials of one have seed, seed + 1, ...
TRIALS = 2  # classifiers in a replicate


def count_replicates(declared: int, least: int = 1) -> int:
    """As many as the table's file says, or REPLICATES; raises BadInput where that is no number."""
    text = os.environ.get("REPLICATES", str(declared))
    if not text.isdecimal() or int(text) < least:
        raise BadInput(f"REPLICATES: {text!r} is not a number of at least {least}; unset it")
    return int(text)


def replicates(case: Case, count: int) -> list[Case]:
    """The row under each replicate's seed; for one replicate, under the preset's own."""
    if count == 1:
        return [case]
    return [replicate(case, number) for number in range(1, count + 1)]


def replicate(case: Case, number: int) -> Case:
    """The row under a replicate's seed, with its few trials."""
    params = copy.deepcopy(case.params)
    params["seed"] = SPACING * number
    params["train"]["trials"] = TRIALS
    return case._replace(name=f"{case.name} r{number}", params=params)
