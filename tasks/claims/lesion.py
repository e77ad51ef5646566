"""Blocks removed from a trained net: A. Veit et al., "Residual Networks Behave Like Ensembles ...", 2016, section 4."""

import copy
import random
import statistics
from collections.abc import Sequence

from torch import nn

from classic_cnn.resnet import BasicBlock, Bottleneck
from classic_cnn.vgg import VGG
from datamodules.contract import Count
from tasks.claims.claim import MeasuredRun
from tasks.claims.measures import accuracy


def blocks_removed(run: MeasuredRun, images: Count = 2000, draws: Count = 5) -> dict[str, object]:
    """`one_removed`: points by which the test error rises without one block, the median over blocks; `worst_removed`:
    without the one that costs most; `whole_error`: per cent, with all blocks; `error_by_blocks_removed`: per cent, the
    mean over random choices of so many blocks. All are of the first 2,000 test images.

    Nothing is trained after a removal. Only blocks that keep the shape can be left out: the signal goes past them.

    Args:
        run: of a ResNet, plain or residual, or a VGG.
        images: the first so many test images.
        draws: choices for each number of blocks.

    Raises:
        ValueError: no block of the net can be left out.
    """
    net, data = run.trained
    split = data.test_split or data.val_split
    assert split is not None
    blocks = removable(net)
    if not blocks:
        raise ValueError(f"no block of a {type(net).__name__} can be left out")

    def error(removed: Sequence[list[str]]) -> float:
        part = without(net, [name for block in removed for name in block])
        return 100 * (1 - accuracy(part, run, split.images[:images], split.labels[:images]))

    whole = error([])
    singles = [error([block]) for block in blocks]
    curve = [(0, whole), (1, statistics.fmean(singles))]
    draw = random.Random(0)
    for count in range(2, len(blocks) + 1):
        choices = [draw.sample(blocks, count) for _ in range(draws if count < len(blocks) else 1)]
        curve.append((count, statistics.fmean(map(error, choices))))
    return {
        "whole_error": whole,
        "one_removed": statistics.median(singles) - whole,
        "worst_removed": max(singles) - whole,
        "error_by_blocks_removed": curve,
    }


def removable(net: nn.Module) -> list[list[str]]:
    """The names of the modules of each block that keeps the shape of its input.

    >>> from classic_cnn.resnet import ResNet
    >>> len(removable(ResNet(depth=20))), removable(VGG(depth=11))[0]
    (7, ['features.conv3_2', 'features.bn3_2', 'features.relu3_2'])
    """
    if isinstance(net, VGG):
        convs = [(name, layer) for name, layer in net.features.named_children() if isinstance(layer, nn.Conv2d)]
        numbers = [name.removeprefix("conv") for name, layer in convs if layer.in_channels == layer.out_channels]
        parts = dict(net.features.named_children())
        return [[f"features.{kind}{n}" for kind in ("conv", "bn", "relu") if f"{kind}{n}" in parts] for n in numbers]
    return [
        [name]
        for name, block in net.named_modules()
        if isinstance(block, BasicBlock | Bottleneck) and keeps_shape(block)
    ]


def keeps_shape(block: BasicBlock | Bottleneck) -> bool:
    convs = [layer for layer in block.residual if isinstance(layer, nn.Conv2d)]
    return convs[0].in_channels == convs[-1].out_channels and all(conv.stride == (1, 1) for conv in convs)


def without(net: nn.Module, names: Sequence[str]) -> nn.Module:
    """A copy of a net with identities in place of some of its modules."""
    part = copy.deepcopy(net)
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(part.get_submodule(parent), child, nn.Identity())
    return part.eval()
