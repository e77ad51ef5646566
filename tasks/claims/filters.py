"""What the filters of a first layer respond to, and which do not: M. Zeiler, R. Fergus, 2013, section 4.1."""

import torch
from torch import Tensor

from classic_cnn.explain.deconvnet import conv_layers, strongest_responses
from datamodules.contract import Count, Share
from tasks.claims.claim import MeasuredRun
from tasks.claims.views import tested_images

BATCH = 500


def dead_filters(run: MeasuredRun, images: Count = 2000, least: Share = 0.01) -> dict[str, float]:
    """`dead_filters`: per cent of the first convolution's filters that never respond with 1 % of the strongest one's
    strongest response to 2,000 test images; `dominance`: that response divided by the median filter's strongest.

    Args:
        run: of a classifier with convolutions.
        images: the first so many test images.
        least: the share of the strongest response that a filter has to reach.

    Raises:
        ValueError: the net has no convolution.
    """
    net, data = run.trained
    stored, _ = tested_images(data, images)
    layers = conv_layers(net, data.transform(stored[:1]))
    if not layers:
        raise ValueError(f"dead_filters: a {type(net).__name__} has no convolutions")
    [responses] = strongest_responses(net, layers[:1], (data.transform(part) for part in stored.split(BATCH)))
    return summarized(responses.values.amax(0), least)


def summarized(strongest: Tensor, least: float) -> dict[str, float]:
    """From the strongest response of each filter, (C,).

    >>> summarized(torch.tensor([0.0, 1.0, 1.0, 4.0, 200.0]), 0.01)
    {'dead_filters': 60.0, 'dominance': 200.0}
    """
    largest = strongest.max()
    middle = strongest.median().clamp_min(torch.finfo(strongest.dtype).eps * largest.clamp_min(1e-30))
    dead = (strongest < least * largest) | (strongest <= 0)
    return {"dead_filters": 100 * dead.double().mean().item(), "dominance": (largest / middle).item()}
