"""By how much an alteration changes a score, from the curves of `tasks.claims.score_panel`."""

import statistics
from collections.abc import Mapping
from typing import Any

from tasks.runs_compare import Curve

# Scores and which way is worse: 1 = larger, -1 = smaller, 0 = farther from 0.5.
WORSE = {
    "inception_score": -1,
    "mode_score": -1,
    "fid": 1,
    "fid_relative": 1,
    "kid": 1,
    "mmd": 1,
    "mmd_squared_unbiased": 1,
    "wasserstein": 1,
    "nearest_neighbour_accuracy": 0,
    "nearest_neighbour_accuracy_real": 0,
    "nearest_neighbour_accuracy_fake": 0,
    "precision": -1,
    "recall": -1,
    "pixel_mmd": 1,
    "pixel_nearest_neighbour_accuracy": 0,
    "parzen_log_likelihood": -1,
}
COPIED = "copies_to_copied"  # the same copies, against the images that were copied
GAP = "copies_gap"  # by how much better a score is there than against held-out images
COUNT = "count"


def gap_curve(curves: Mapping[str, Curve], score: str) -> Curve:
    """By how much copies score better against the images that were copied than against held-out ones.

    A lower accuracy of a nearest-neighbour classifier counts as better here, also below 0.5.

    >>> gap_curve({"recall/copies": [(1.0, 0.5)], "recall/copies_to_copied": [(1.0, 0.75)]}, "recall")
    [(1.0, 0.25)]
    """
    sign = WORSE[score] or 1
    pairs = zip(curves[f"{score}/copies"], curves[f"{score}/{COPIED}"], strict=True)
    return [(strength, sign * (held_out - copied)) for (strength, held_out), (_, copied) in pairs]


def worse(score: str, value: float) -> float:
    """A number that grows as a score gets worse.

    >>> worse("fid", 3.0), worse("recall", 0.75), worse("nearest_neighbour_accuracy", 0.25)
    (3.0, -0.75, 0.25)
    """
    return abs(value - 0.5) if WORSE[score] == 0 else WORSE[score] * value


def change(curves: Mapping[str, Any], score: str, alteration: str, strength: float | str) -> float:
    """How much worse a score gets by an alteration, in floor deviations.

    That is the difference from the same images unaltered (from the most images for `count`), divided by the standard
    deviation of the score of unaltered images, over which of them are drawn. The gap of copies counts as it is.

    >>> curves = {"fid/floor": [(0, 2.0), (1, 3.0), (2, 4.0)], "fid/shifted": [(0, 3.0), (1, 3.5), (2, 9.0)]}
    >>> change(curves, "fid", "shifted", 2)
    6.0
    """
    unit = statistics.stdev(value for _, value in curves[f"{score}/floor"])
    values = dict(curves[f"{score}/{alteration}"])
    end = values[float(strength)]
    if alteration == GAP:
        return (end - values[0]) / unit
    start = values[max(values) if alteration == COUNT else 0]
    return (worse(score, end) - worse(score, start)) / unit
