"""Which covered part of an image costs the true class its probability: M. Zeiler, R. Fergus, 2013, section 4.2."""

import statistics

import torch
from torch import Tensor

from classic_cnn.explain.occlusion import occlude, occlusion
from datamodules.contract import Count, Share
from tasks.claims.claim import MeasuredRun
from tasks.claims.views import tested_images
from tasks.runs_compare import Curve

INK = 25  # of 255: a stored pixel that belongs to the object
BINS = 5  # of the share of the square that covers the object


@torch.no_grad()
def occlusion_drop(
    run: MeasuredRun, images: Count = 200, side: Count = 7, stride: Count = 3, shade: Share = 0.5
) -> dict[str, float | Curve]:
    """`object_drop`: points of the true class's probability that a gray square of 7x7 pixels costs where more than half
    of it covers the object; `background_drop`: where less than a tenth does; `excess_drop`: their difference;
    `drop_by_share`: by the share of the square that covers the object. They are of the first 200 test images that are
    classified correctly, of which each has all positions, three pixels apart.

    Args:
        run: of a classifier of gray images on a dark background.
        images: how many.
        side: of the square, in pixels.
        stride: pixels from one position to the next.
        shade: of the square, from 0 for the background to 1.

    Raises:
        ValueError: no square covers an object, or none the background.
    """
    net, data = run.trained

    def predict(stored: Tensor) -> Tensor:
        return net(data.transform(stored)).softmax(1)

    stored, labels = tested_images(data, 5 * images)
    whole = torch.cat([predict(part) for part in stored.split(500)])
    chosen = torch.nonzero(whole.argmax(1) == labels).flatten()[:images]
    points: Curve = []  # the share of the square on the object, and the drop
    for index in chosen.tolist():
        after = occlusion(predict, stored[index], side, stride, shade)[..., labels[index]].flatten()
        drops = 100 * (whole[index, labels[index]] - after)
        points += zip(covered_shares(stored[index], side, stride).tolist(), drops.tolist(), strict=True)
    on_object = [drop for share, drop in points if share > 0.5]
    on_background = [drop for share, drop in points if share < 0.1]
    if not on_object or not on_background:
        raise ValueError("occlusion_drop: no square covers an object, or none the background")
    by_bin = [[drop for share, drop in points if min(int(share * BINS), BINS - 1) == number] for number in range(BINS)]
    return {
        "object_drop": statistics.fmean(on_object),
        "background_drop": statistics.fmean(on_background),
        "excess_drop": statistics.fmean(on_object) - statistics.fmean(on_background),
        "drop_by_share": [
            ((number + 0.5) / BINS, statistics.fmean(part)) for number, part in enumerate(by_bin) if part
        ],
    }


def covered_shares(image: Tensor, side: int, stride: int) -> Tensor:
    """The share of the square that covers ink of an image, uint8 (1, H, W), at each position in the order of `occlude`.

    >>> image = torch.zeros(1, 2, 2, dtype=torch.uint8)
    >>> image[0, 0, 1] = 255
    >>> covered_shares(image, side=1, stride=1)
    tensor([0., 1., 0., 0.])
    """
    ink = ((image > INK) * 255).to(torch.uint8)
    parts = occlude(ink, side, stride, 0.0)
    left = torch.cat([(part > 0).flatten(1).sum(1) for part in parts])  # what a square without ink leaves of it
    return ((ink > 0).sum() - left) / side**2
