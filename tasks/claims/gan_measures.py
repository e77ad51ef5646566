"""Measures of a trained GAN that claims share; each returns numbers by name (see `tasks.claims.claim`)."""

import math
import statistics

from scipy.stats import spearmanr

from datamodules.contract import Count
from tasks.claims.claim import MeasuredRun
from tasks.runs_compare import Curve

ESTIMATE, DISCRIMINATOR_LOSS = "train/wasserstein_estimate", "train/discriminator_loss"


def scores(run: MeasuredRun, names: list[str]) -> dict[str, float]:
    """`fid` and other scores of the finished run, on test images, or on validation images of a set without them."""
    found = {}
    for name in names:
        stage = "test" if f"test/{name}" in run.results else "val"
        found[name] = run.results[f"{stage}/{name}"]
    return found


def few_modes(run: MeasuredRun, least: Count = 4) -> dict[str, float]:
    """`few_modes`: 1 where the finished run found fewer than four modes, else 0; the mean over seeds is the share of
    such runs. A generator whose samples lie between the modes has few as well as one whose samples are all alike.

    Args:
        run: of a GAN whose modes are counted.
        least: the modes that are not few.
    """
    return {"few_modes": float(scores(run, ["modes"])["modes"] < least)}


def early_mean(run: MeasuredRun, curve: str, until: int) -> dict[str, float]:
    """The mean of a logged curve up to a step, and the whole curve, under the curve's name with `_` for `/`.

    Raises:
        ValueError: nothing was logged up to there.
    """
    points = run.curve(curve)
    early = [value for step, value in points if step <= until]
    if not early:
        raise ValueError(f"{curve}: nothing was logged up to step {until}")
    return {curve.replace("/", "_"): statistics.fmean(early)}


def loss_tracks_fid(run: MeasuredRun) -> dict[str, float | Curve]:
    """`estimate_and_fid`: Spearman's rank correlation, from the highest FID on, of what the discriminator estimates of
    the distance of real and generated images with the FID; `generator_loss_and_fid`: that of the generator's loss.

    Before its FID is highest a generator makes noise, and the estimate rises as the discriminator learns what real
    images are; 0 where that is so to the end.

    A critic's estimate is train/wasserstein_estimate, a discriminator's log 2 - L / 2 with L its loss, which estimates
    the Jensen-Shannon divergence (M. Arjovsky et al., "Wasserstein GAN", 2017, section 4.2). Each FID is compared with
    the mean of what was logged since the one before it.

    The curves `estimate` and `fid` are over steps.
    """
    fid = run.curve("val/fid")
    if ESTIMATE in run.curves:
        estimate = run.curve(ESTIMATE)
    else:
        estimate = [(step, math.log(2) - loss / 2) for step, loss in run.curve(DISCRIMINATOR_LOSS)]
    worst = max(range(len(fid)), key=lambda number: fid[number][1])
    estimate, loss = (means_between(curve, fid) for curve in (estimate, run.curve("train/generator_loss")))
    return {
        "estimate_and_fid": rank_correlation(estimate[worst:], fid[worst:]),
        "generator_loss_and_fid": rank_correlation(loss[worst:], fid[worst:]),
        "estimate": estimate,
        "fid": fid,
    }


def means_between(curve: Curve, others: Curve) -> Curve:
    """The mean of a curve since the last of the other curve's steps, at each of these steps.

    >>> means_between([(1, 1.0), (2, 3.0), (3, 4.0), (5, 8.0)], [(2, 0.0), (4, 0.0)])
    [(2, 2.0), (4, 4.0)]

    Raises:
        ValueError: nothing was logged between two of the steps.
    """
    means, start = [], -math.inf
    for end, _ in others:
        values = [value for step, value in curve if start < step <= end]
        if not values:
            raise ValueError(f"nothing was logged after step {start:g} up to step {end:g}")
        means.append((end, statistics.fmean(values)))
        start = end
    return means


def rank_correlation(first: Curve, second: Curve) -> float:
    """Spearman's rank correlation of the values of two curves at the same steps; 0 where one of them is constant.

    >>> rank_correlation([(1, 5.0), (2, 4.0), (3, 1.0)], [(1, 0.1), (2, 0.2), (3, 9.0)])
    -1.0
    """
    values = [[value for _, value in curve] for curve in (first, second)]
    if any(len(set(part)) == 1 for part in values):
        return 0.0
    return round(float(spearmanr(*values).statistic), 12)
