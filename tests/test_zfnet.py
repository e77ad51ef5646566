"""ZFNet's bound on the root mean square of each filter (Zeiler and Fergus 2013, section 3)."""

from typing import Any

import pytest
import torch
from nets import fit_one_batch
from torch import nn

from classic_cnn.zfnet import ZFNet

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def largest_rms(net: ZFNet) -> float:
    weights = [module.weight for module in net.features if isinstance(module, nn.Conv2d)]
    return max(weight.detach().flatten(1).square().mean(1).sqrt().max().item() for weight in weights)


def test_zfnet_scales_down_the_filters_above_the_bound_and_no_other() -> None:
    net = ZFNet(filter_rms=0.1)
    weight = next(module.weight for module in net.features if isinstance(module, nn.Conv2d))
    linear = next(module.weight for module in net.classifier if isinstance(module, nn.Linear))
    with torch.no_grad():
        weight[0] = 3 * torch.sign(torch.arange(25.0).view(1, 5, 5) - 12.5)  # rms 3
        weight[1] = 0.05
        weight[2] = 0
        weight[3] = 0.2
    before, linear_before = weight.detach().clone(), linear.detach().clone()
    net.renormalize_filters()
    torch.testing.assert_close(weight[0], before[0] / 30)
    assert torch.equal(weight[1:3], before[1:3])
    torch.testing.assert_close(weight[3], torch.full((1, 5, 5), 0.1))
    assert torch.equal(linear, linear_before)
    assert largest_rms(net) <= 0.1 * (1 + 1e-6)


def test_zfnet_bounds_its_filters_after_every_step() -> None:
    bounded, free = ZFNet(filter_rms=0.1), ZFNet(filter_rms=None)
    assert largest_rms(bounded) > 0.2  # He's initialization of the 5x5 stem: sqrt(2 / 25)
    fit_one_batch(bounded)
    fit_one_batch(free)
    assert largest_rms(bounded) <= 0.1 * (1 + 1e-6)
    assert largest_rms(free) > 0.2


def test_coarse_stem_halves_the_maps_that_the_second_convolution_then_keeps() -> None:
    fine, coarse = ZFNet(), ZFNet(coarse_stem=True)
    assert fine.shape_after(*fine.features[:1]) == (48, 28, 28)
    assert coarse.shape_after(*coarse.features[:1]) == (48, 14, 14)
    assert fine.shape_after(*fine.features[:5]) == coarse.shape_after(*coarse.features[:5]) == (128, 7, 7)
    convs = [module.out_channels for module in ZFNet(width=0.25).features if isinstance(module, nn.Conv2d)]
    assert convs == [12, 32, 48, 48, 32]


@pytest.mark.parametrize("changes", [{"coarse_stem": True}, {"width": 0.5}])
def test_layout_of_the_paper_is_not_varied(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="coarse_stem"):
        ZFNet.published(**changes)
