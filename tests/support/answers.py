"""Answers small enough to count by hand."""

import numpy as np

from stages.shared.measuring.accuracy import Answers

GROUPS = ["landbird_land", "landbird_water", "waterbird_land", "waterbird_water"]
TEST = Answers(
    keys=np.arange(4).astype(str),
    labels=np.array([0, 0, 1, 2]),
    groups=np.array([""] * 4),
    predicted=np.array([[0, 0, 1, 1], [0, 1, 0, 2]]),  # correct: 1 1 1 0 and 1 0 0 1
)
OOD = Answers(
    keys=np.arange(8).astype(str),
    labels=np.array([0, 0, 1, 1, 2, 2, 2, 2]),
    groups=np.repeat(GROUPS, 2),
    # Correct by group: 4/4, 3/4, 1/4, 1/4.
    predicted=np.array([[0, 0, 1, 0, 0, 0, 2, 0], [0, 0, 1, 1, 0, 2, 0, 0]]),
)
COUNTS = np.array([11, 10, 4])


def flip(answers: Answers, wrong_to_right: bool) -> Answers:
    """The same images with all answers right, or all wrong."""
    labels = np.broadcast_to(answers.labels, answers.predicted.shape)
    return answers._replace(predicted=labels if wrong_to_right else labels + 1)
