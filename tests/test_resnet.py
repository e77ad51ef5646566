"""ResNet against torchvision's, and its shortcuts (He et al. 2015, section 3.3)."""

from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from nets import count, on_meta
from torch import nn

from classic_cnn.resnet import BasicBlock, Bottleneck, ResNet, ZeroPadding


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copies everything by its place: both nets list the same layers in the same order under different names."""
    tensors = source.state_dict().values()
    target.load_state_dict(dict(zip(target.state_dict(), tensors, strict=True)))


@pytest.mark.parametrize("depth", [18, 34])
def test_resnet_of_basic_blocks_gives_the_outputs_of_torchvision(depth: int) -> None:
    reference = torchvision.models.get_model(f"resnet{depth}", weights=None)
    net = ResNet.published(depth)
    copy_weights(reference, net)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(images), reference(images))


def test_resnet_of_bottlenecks_differs_from_torchvision_only_in_the_place_of_the_stride() -> None:
    reference = torchvision.models.resnet50(weights=None)
    net = ResNet.published(50)
    copy_weights(reference, net)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(net(images), reference(images), atol=1e-3)
        for block in net.modules():
            if isinstance(block, Bottleneck):
                reduce, spatial = block.residual[0], block.residual[3]
                reduce.stride, spatial.stride = spatial.stride, reduce.stride
        torch.testing.assert_close(net(images), reference(images))


def test_shortcut_of_the_nets_for_cifar_has_no_parameters() -> None:
    net = ResNet(20)
    shortcuts = [module for name, module in net.named_modules() if name.endswith("shortcut")]
    assert len(shortcuts) == 9
    assert sum(isinstance(shortcut, ZeroPadding) for shortcut in shortcuts) == 2
    assert sum(count(shortcut) for shortcut in shortcuts) == 0


def test_parameter_free_shortcut_keeps_every_second_pixel_and_adds_channels_of_zeros() -> None:
    images = torch.randn(2, 3, 7, 7)
    out = ZeroPadding(3, 5, stride=2)(images)
    assert out.shape == (2, 5, 4, 4)
    for row in range(4):
        for column in range(4):
            assert torch.equal(out[:, :3, row, column], images[:, :, 2 * row, 2 * column])
    assert not out[:, 3:].any()


def test_wider_resnet_multiplies_the_channels_of_every_stage() -> None:
    net, signal = on_meta(partial(ResNet, width=4.0))
    assert isinstance(net.features, nn.Sequential)
    outputs = [tuple((signal := stage(signal)).shape[1:]) for stage in net.features]
    assert outputs == [(64, 28, 28), (64, 28, 28), (128, 14, 14), (256, 7, 7)]


@pytest.mark.parametrize("depth", [20, 18, 50])
def test_plain_net_is_the_residual_one_without_its_shortcuts(depth: Any) -> None:
    plain, residual = ResNet(depth, width=0.25, shortcuts=False), ResNet(depth, width=0.25)
    own = {name: value for name, value in residual.state_dict().items() if ".shortcut." not in name}
    plain.load_state_dict(own)  # the same layers, but for the projections
    images = torch.randn(2, 1, 28, 28)
    signal = images = plain.eval().features[0](images)
    for block in plain.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            signal = block.residual(signal).relu()
    torch.testing.assert_close(plain.features[1:](images), signal)


@pytest.mark.parametrize(("depth", "blocks"), [(20, 2), (56, 6), (110, 12)])
def test_bottlenecks_of_the_nets_for_cifar_keep_the_number_of_layers(depth: Any, blocks: int) -> None:
    net, _ = on_meta(partial(ResNet, depth, bottleneck=True))
    assert sum(isinstance(module, Bottleneck) for module in net.modules()) == 3 * blocks
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules()) == depth
    assert net(torch.zeros(2, 1, 28, 28, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("depth", [32, 50, 1202])
def test_bottlenecks_fit_no_other_depth(depth: Any) -> None:
    with pytest.raises(ValueError, match="bottleneck"), torch.device("meta"):
        ResNet(depth, bottleneck=True)
