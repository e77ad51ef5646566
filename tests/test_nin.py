"""NiN as in its authors' configuration for CIFAR-10 (github.com/mavenlin/cuda-convnet, NIN/cifar-10_def)."""

from nets import on_meta
from torch import nn

from classic_cnn.nin import NiN


def test_published_net_pools_by_maxima_behind_its_first_two_blocks() -> None:
    net, _ = on_meta(NiN.published)
    assert sum(isinstance(module, nn.MaxPool2d) for module in net.modules()) == 2
    assert not any(isinstance(module, nn.AvgPool2d) for module in net.modules())
