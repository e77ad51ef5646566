"""MobileNet and Xception: how their depthwise separable convolutions are built, regularized and what they save."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from command_line import PLAIN, finish, start
from nets import count, leaves, on_meta
from torch import nn
from torch.nn import functional as F

from classic_cnn.classifier import ImageClassifier
from classic_cnn.mobilenet import MobileNet
from classic_cnn.xception import Residual, SeparableConv, Xception
from tasks.build import multiply_adds
from tasks.layer_summary import trace
from tasks.summarize import separable_macs


def depthwise_places(net: nn.Module) -> list[int]:
    return [i for i, layer in enumerate(leaves(net)) if isinstance(layer, nn.Conv2d) and layer.groups > 1]


@pytest.mark.parametrize("make", [Xception, Xception.published])
def test_xception_has_nothing_between_depthwise_and_pointwise_convolution(make: Callable[[], ImageClassifier]) -> None:
    net, _ = on_meta(make)
    modules = leaves(net)
    assert len(depthwise_places(net)) == 34
    for place in depthwise_places(net):
        depthwise, pointwise, norm = modules[place : place + 3]
        assert isinstance(depthwise, nn.Conv2d)
        assert depthwise.groups == depthwise.in_channels == depthwise.out_channels
        assert isinstance(pointwise, nn.Conv2d)
        assert pointwise.kernel_size == (1, 1)
        assert isinstance(norm, nn.BatchNorm2d)


@pytest.mark.parametrize("make", [MobileNet, MobileNet.published])
def test_mobilenet_has_bn_and_relu_after_both_convolutions(
    make: Callable[[], ImageClassifier],
) -> None:
    net, _ = on_meta(make)
    modules = leaves(net)
    assert len(depthwise_places(net)) == 13
    for place in depthwise_places(net):
        kinds = [type(layer) for layer in modules[place : place + 6]]
        assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2


def test_xception_has_36_convolutions_in_14_modules_all_residual_but_the_first_and_the_last() -> None:
    net, _ = on_meta(Xception.published)
    assert isinstance(net.features, nn.Sequential)
    assert [isinstance(module, Residual) for module in net.features] == [False, *[True] * 12, False]
    shortcuts = [module for name, module in net.named_modules() if "shortcut." in name]
    convolutions = [layer for layer in leaves(net) if isinstance(layer, nn.Conv2d) and layer not in shortcuts]
    separable = len(depthwise_places(net))  # of two convolutions in torch, of one in the paper's count
    assert len(convolutions) - separable == 36
    assert sum(isinstance(layer, nn.Conv2d) for layer in shortcuts) == 4


def test_weight_decay_leaves_the_depthwise_filters_of_mobilenet_alone() -> None:
    net = MobileNet(width=0.25, optimizer=partial(torch.optim.SGD, lr=0.1, weight_decay=0.5))
    groups = net.configure_optimizers().param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert all(filters.shape[1:] == (1, 3, 3) for filters in groups[1]["params"])
    assert len(groups[1]["params"]) == 13
    assert sum(p.numel() for group in groups for p in group["params"]) == count(net)


def test_separable_convolutions_save_what_the_paper_of_mobilenet_says() -> None:
    net, images = on_meta(MobileNet.published)
    listed = trace(net, images)
    done, instead = separable_macs(listed)
    macs = sum(layer.macs for layer in listed)
    assert macs / 1e6 == pytest.approx(569, rel=0.002)
    assert (macs - done + instead) / 1e6 == pytest.approx(4866, rel=0.002)  # Howard et al., Table 4: "Conv MobileNet"


def test_mobilenet_of_standard_convolutions_is_that_of_table_4() -> None:
    with torch.device("meta"):
        net = MobileNet.published(separable=False)
        assert multiply_adds(net) / 1e6 == pytest.approx(4866, rel=0.001)
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(29.3, abs=0.05)


@pytest.mark.extended
def test_narrow_net_trains_in_the_layout_that_does_not_end_the_process() -> None:
    process = start("model=xception", "model.width=0.0625", "model.middle=1", *PLAIN, "trainer.max_epochs=1")
    outcome = finish(process)
    assert outcome.status == 0, outcome.err


def test_xception_varies_as_in_sections_4_6_and_4_7() -> None:
    def kinds(**changes: Any) -> list[type[nn.Module]]:
        return [type(module) for module in Xception(width=0.05, **changes).modules()]

    separable = kinds().count(SeparableConv)
    assert kinds(relu_between=True).count(nn.ReLU) == kinds().count(nn.ReLU) + separable
    assert kinds(shortcuts=False).count(nn.Conv2d) == kinds().count(nn.Conv2d) - 4  # entry and exit flow project
    plain = Xception(width=0.05, shortcuts=False).eval()
    signal = images = plain.features[0](torch.zeros(2, 1, 28, 28))
    for module in plain.features[1:]:
        signal = getattr(module, "residual", module)(signal)
    torch.testing.assert_close(plain.features[1:](images), signal)


def test_modules_of_xception_are_those_of_figure_5() -> None:
    net = Xception(width=0.05, middle=1).eval()
    signal = net.features[0](torch.rand(2, 1, 28, 28) * 2 - 1)
    for number, module in enumerate(list(net.features)[1:-1], start=1):
        separable = [part for part in module.modules() if isinstance(part, SeparableConv)]
        residual = signal
        for place, layer in enumerate(separable):
            if (number, place) != (1, 0):  # only the very first one has no ReLU before it
                residual = residual.relu()
            residual = layer(residual)
        if number != 4:  # of small images the third module keeps the size; the fourth one is that of the middle flow
            residual = F.max_pool2d(residual, 3, 2, 1) if number != 3 else residual
        shortcut: Any = module.shortcut
        expected = residual + shortcut(signal)
        signal = module(signal)
        torch.testing.assert_close(signal, expected)
    assert len(separable) == 2
