"""NiN as in its authors' configuration for CIFAR-10 (github.com/mavenlin/cuda-convnet, NIN/cifar-10_def)."""

from typing import Literal

import pytest
import torch
from nets import count, fit_one_batch, on_meta
from torch import nn

from classic_cnn.nin import NiN


def test_published_net_pools_by_maxima_behind_its_first_two_blocks() -> None:
    net, _ = on_meta(NiN.published)
    assert sum(isinstance(module, nn.MaxPool2d) for module in net.modules()) == 2
    assert not any(isinstance(module, nn.AvgPool2d) for module in net.modules())


def test_net_without_1x1_layers_has_three_convolutions_and_the_one_for_the_classes() -> None:
    features = NiN(one_by_one=False).features
    convs = [module for module in features if isinstance(module, nn.Conv2d)]
    assert [(conv.out_channels, conv.kernel_size[0]) for conv in convs] == [(96, 5), (128, 5), (128, 5), (10, 1)]
    channels = [module.out_channels for module in NiN(width=0.25).features if isinstance(module, nn.Conv2d)]
    assert channels == [24, 16, 12, 32, 24, 12, 32, 24, 10]


def output(net: NiN) -> nn.Linear:
    [layer] = (module for module in net.classifier if isinstance(module, nn.Linear))
    return layer


def test_fully_connected_head_reads_the_maps_that_are_averaged_otherwise() -> None:
    average, linear = NiN(), NiN(head="linear")
    assert count(linear) - count(average) == (10 * 7 * 7 + 1) * 10
    linear.load_state_dict(average.state_dict(), strict=False)
    with torch.no_grad():
        output(linear).weight.copy_(torch.eye(10).repeat_interleave(49, 1) / 49)
        output(linear).bias.zero_()
        images = torch.rand(2, 1, 28, 28)
        torch.testing.assert_close(linear.eval()(images), average.eval()(images))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("head", ["linear", "dropout_linear"])
def test_fully_connected_head_is_trained(head: Literal["linear", "dropout_linear"]) -> None:
    net = NiN(head=head)
    before = output(net).weight.detach().clone()
    fit_one_batch(net)
    assert not torch.equal(output(net).weight, before)
    dropped = [module.p for module in net.classifier if isinstance(module, nn.Dropout)]
    assert dropped == [0.5 if head == "dropout_linear" else 0]


def test_published_net_has_a_relu_behind_its_last_convolution() -> None:
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert NiN.published().eval().features(images).min() == 0
    assert NiN.published(output_relu=False).eval().features(images).min() < 0
