"""In which order the layers of a net converge: M. Zeiler, R. Fergus, 2013, section 4."""

from collections.abc import Sequence
from itertools import accumulate

from classic_cnn.callbacks.convergence import weights
from tasks.claims.claim import MeasuredRun
from tasks.claims.gan_measures import rank_correlation
from tasks.runs_compare import Curve

CONVERGED = 0.9  # of all that a layer changes


def layer_order(run: MeasuredRun) -> dict[str, float | Curve]:
    """`order_correlation`: Spearman's rank correlation of a layer's depth with the epoch by which it has converged;
    `converged_epoch`: that epoch, by layer. A layer has converged when 90 % of the changes of its weights are done.

    The change of an epoch is |w - w'| / |w'|, as the callback `LayerConvergence` logs it, which the run needs. An epoch
    is interpolated.

    Args:
        run: of a classifier, for several epochs at a constant rate.
    """
    net, _ = run.trained
    epochs = [converged_epoch([change for _, change in run.curve(f"weight_change/{name}")]) for name in weights(net)]
    curve: Curve = [(float(depth), epoch) for depth, epoch in enumerate(epochs, start=1)]
    return {
        "order_correlation": rank_correlation([(depth, depth) for depth, _ in curve], curve),
        "converged_epoch": curve,
    }


def converged_epoch(changes: Sequence[float], share: float = CONVERGED) -> float:
    """The epoch by which so much of the sum of all changes is done, the first being number 1.

    >>> converged_epoch([8.0, 1.0, 1.0]), converged_epoch([1.0, 1.0]), converged_epoch([1.0, 1.0, 2.0], 0.75)
    (2.0, 1.8, 2.5)
    """
    target = share * sum(changes)
    for number, (done, change) in enumerate(zip(accumulate(changes), changes, strict=True), start=1):
        if done >= target:
            return number - (done - target) / change if change else float(number)
    return float(len(changes))
