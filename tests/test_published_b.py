"""ResNet, MobileNet and Xception as published: shapes, parameters and operations against the papers' own tables."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from classic_cnn.alexnet import AlexNet
from classic_cnn.classifier import ImageClassifier
from classic_cnn.lenet import LeNet5
from classic_cnn.mobilenet import MobileNet
from classic_cnn.resnet import Bottleneck, ResNet, ZeroPadding
from classic_cnn.xception import Residual, Xception
from tasks.layer_summary import Layer, trace
from tasks.summarize import separable_macs

Shapes = list[tuple[int, int, int]]

# For colour images and ImageNet's 1000 classes, and for CIFAR-10's 10.
IMAGENET: dict[str, Any] = {"as_published": True, "in_channels": 3, "num_classes": 1000}
CIFAR: dict[str, Any] = {"as_published": True, "in_channels": 3}

# He et al., Table 1: output sizes of conv2_x's pooling and of conv2_x to conv5_x, for basic blocks and bottlenecks.
RESNET_BASIC: Shapes = [(64, 56, 56), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
RESNET_BOTTLENECK: Shapes = [(64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]
# He et al., section 4.2: 16, 32 and 64 maps of 32x32, 16x16 and 8x8.
RESNET_CIFAR: Shapes = [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
# Howard et al., Table 1: "Conv / s2" and each pair of "Conv dw" and 1x1 "Conv".
MOBILENET: Shapes = [
    *((32, 112, 112), (64, 112, 112), (128, 56, 56), (128, 56, 56), (256, 28, 28), (256, 28, 28)),
    *[(512, 14, 14)] * 6,
    *((1024, 7, 7), (1024, 7, 7)),
]
# Chollet, Figure 5: the entry flow makes 19x19x728 maps out of 299x299x3, the middle flow keeps them; the sizes that
# the figure does not give are those of the author's net, keras.applications.Xception.
XCEPTION: Shapes = [
    *((64, 147, 147), (128, 74, 74), (256, 37, 37), (728, 19, 19)),
    *[(728, 19, 19)] * 8,
    *((1024, 10, 10), (2048, 10, 10)),
]

# The net, the output shape of each of its stages, its parameters, and its multiply-adds in millions as printed.
# ResNet for ImageNet: FLOPs of Table 1, parameters of torchvision's documentation; for CIFAR-10: Table 6 (0.27M to
# 19.4M parameters; no FLOPs there). MobileNet: Table 6 (4.2, 2.6, 1.3, 0.5 million parameters). Xception: Table 3.
PUBLISHED = [
    pytest.param(partial(ResNet, depth=18, **IMAGENET), RESNET_BASIC, 11_689_512, 1_800, id="resnet-18"),
    pytest.param(partial(ResNet, depth=34, **IMAGENET), RESNET_BASIC, 21_797_672, 3_600, id="resnet-34"),
    pytest.param(partial(ResNet, depth=50, **IMAGENET), RESNET_BOTTLENECK, 25_557_032, 3_800, id="resnet-50"),
    pytest.param(partial(ResNet, depth=101, **IMAGENET), RESNET_BOTTLENECK, 44_549_160, 7_600, id="resnet-101"),
    pytest.param(partial(ResNet, depth=152, **IMAGENET), RESNET_BOTTLENECK, 60_192_808, 11_300, id="resnet-152"),
    pytest.param(partial(ResNet, depth=20, **CIFAR), RESNET_CIFAR, 269_722, None, id="resnet-20"),
    pytest.param(partial(ResNet, depth=32, **CIFAR), RESNET_CIFAR, 464_154, None, id="resnet-32"),
    pytest.param(partial(ResNet, depth=44, **CIFAR), RESNET_CIFAR, 658_586, None, id="resnet-44"),
    pytest.param(partial(ResNet, depth=56, **CIFAR), RESNET_CIFAR, 853_018, None, id="resnet-56"),
    pytest.param(partial(ResNet, depth=110, **CIFAR), RESNET_CIFAR, 1_727_962, None, id="resnet-110"),
    pytest.param(partial(ResNet, depth=1202, **CIFAR), RESNET_CIFAR, 19_421_274, None, id="resnet-1202"),
    pytest.param(partial(MobileNet, **IMAGENET), MOBILENET, 4_231_976, 569, id="mobilenet"),
    pytest.param(partial(MobileNet, width=0.75, **IMAGENET), None, 2_585_560, 325, id="mobilenet-0.75"),
    pytest.param(partial(MobileNet, width=0.5, **IMAGENET), None, 1_331_592, 149, id="mobilenet-0.5"),
    pytest.param(partial(MobileNet, width=0.25, **IMAGENET), None, 470_072, 41, id="mobilenet-0.25"),
    pytest.param(partial(Xception, **IMAGENET), XCEPTION, 22_855_952, None, id="xception"),
]

# For gray images and 10 classes: a first convolution of a third of the weights, a smaller classifier.
GRAY = [
    pytest.param(partial(ResNet, depth=20), 269_434, id="resnet-20"),
    pytest.param(partial(ResNet, depth=32), 463_866, id="resnet-32"),
    pytest.param(partial(ResNet, depth=44), 658_298, id="resnet-44"),
    pytest.param(partial(ResNet, depth=56), 852_730, id="resnet-56"),
    pytest.param(partial(ResNet, depth=110), 1_727_674, id="resnet-110"),
    pytest.param(partial(ResNet, depth=18), 11_172_810, id="resnet-18 with a 3x3 stem"),
    pytest.param(partial(MobileNet, width=1), 3_216_650, id="mobilenet"),
    pytest.param(partial(MobileNet, width=0.25), 215_498, id="mobilenet-0.25"),
    pytest.param(partial(Xception, width=1), 20_826_866, id="xception"),
]


def on_paper(make: Callable[[], ImageClassifier], in_channels: int = 3) -> tuple[ImageClassifier, Tensor]:
    """A net and an image for it that have shapes but no values, and so cost nothing."""
    with torch.device("meta"):
        net = make().eval()
        return net, torch.empty(1, in_channels, net.image_size, net.image_size)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def million_multiply_adds(net: nn.Module, images: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        net(images)
    return counter.get_total_flops() / 2e6


@pytest.mark.parametrize(("make", "shapes", "count", "millions"), PUBLISHED)
def test_published_net_has_the_shapes_parameters_and_operations_of_the_paper(
    make: Callable[[], ImageClassifier], shapes: Shapes | None, count: int, millions: int | None
) -> None:
    net, maps = on_paper(make)
    if millions is not None:
        assert million_multiply_adds(net, maps) == pytest.approx(millions, rel=0.02)
    assert parameters(net) == count
    assert isinstance(net.features, nn.Sequential)
    outputs = [tuple((maps := stage(maps)).shape[1:]) for stage in net.features]
    assert shapes is None or outputs == shapes


@pytest.mark.parametrize(("make", "count"), GRAY)
def test_net_for_gray_images_and_ten_classes_has_as_many_parameters_as_expected(
    make: Callable[[], ImageClassifier], count: int
) -> None:
    net, images = on_paper(make, in_channels=1)
    assert net(images).shape == (1, 10)
    assert parameters(net) == count


@pytest.mark.parametrize("make", [ResNet, MobileNet, Xception])
def test_native_net_is_small_and_ends_with_maps_of_at_least_4x4(make: Callable[[], ImageClassifier]) -> None:
    net, images = on_paper(make, in_channels=1)
    assert net.image_size == 28
    assert 10 < million_multiply_adds(net, images) < 60
    assert isinstance(net.features, nn.Sequential)
    assert min(net.features(images).shape[2:]) >= 4


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copies everything by its place: both nets list the same layers in the same order under different names."""
    tensors = source.state_dict().values()
    target.load_state_dict(dict(zip(target.state_dict(), tensors, strict=True)))


@pytest.mark.parametrize("depth", [18, 34])
def test_resnet_of_basic_blocks_gives_the_outputs_of_torchvision(depth: int) -> None:
    reference = torchvision.models.get_model(f"resnet{depth}", weights=None)
    net = ResNet(depth, **IMAGENET)
    copy_weights(reference, net)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(images), reference(images))


def test_resnet_of_bottlenecks_differs_from_torchvision_only_in_the_place_of_the_stride() -> None:
    reference = torchvision.models.resnet50(weights=None)
    net = ResNet(50, **IMAGENET)
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
    assert sum(parameters(shortcut) for shortcut in shortcuts) == 0


def test_parameter_free_shortcut_keeps_every_second_pixel_and_adds_maps_of_zeros() -> None:
    maps = torch.randn(2, 3, 7, 7)
    out = ZeroPadding(3, 5, stride=2)(maps)
    assert out.shape == (2, 5, 4, 4)
    for row in range(4):
        for column in range(4):
            assert torch.equal(out[:, :3, row, column], maps[:, :, 2 * row, 2 * column])
    assert not out[:, 3:].any()


def test_wider_resnet_multiplies_the_maps_of_every_stage() -> None:
    net, maps = on_paper(partial(ResNet, width=64), in_channels=1)
    assert isinstance(net.features, nn.Sequential)
    outputs = [tuple((maps := stage(maps)).shape[1:]) for stage in net.features]
    assert outputs == [(64, 28, 28), (64, 28, 28), (128, 14, 14), (256, 7, 7)]


def layers(net: nn.Module) -> list[nn.Module]:
    """The modules without parts, in the order in which they are listed."""
    return [module for module in net.modules() if not list(module.children())]


def depthwise_places(net: nn.Module) -> list[int]:
    return [i for i, layer in enumerate(layers(net)) if isinstance(layer, nn.Conv2d) and layer.groups > 1]


@pytest.mark.parametrize("as_published", [False, True])
def test_xception_has_nothing_between_depthwise_and_pointwise_convolution(as_published: bool) -> None:
    net, _ = on_paper(partial(Xception, as_published=as_published))
    flat = layers(net)
    assert len(depthwise_places(net)) == 34
    for place in depthwise_places(net):
        depthwise, pointwise, norm = flat[place : place + 3]
        assert isinstance(depthwise, nn.Conv2d)
        assert depthwise.groups == depthwise.in_channels == depthwise.out_channels
        assert isinstance(pointwise, nn.Conv2d)
        assert pointwise.kernel_size == (1, 1)
        assert isinstance(norm, nn.BatchNorm2d)


@pytest.mark.parametrize("as_published", [False, True])
def test_mobilenet_has_batch_norm_and_relu_after_depthwise_and_after_pointwise_convolution(as_published: bool) -> None:
    net, _ = on_paper(partial(MobileNet, as_published=as_published))
    flat = layers(net)
    assert len(depthwise_places(net)) == 13
    for place in depthwise_places(net):
        kinds = [type(layer) for layer in flat[place : place + 6]]
        assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2


def test_xception_has_36_convolutions_in_14_modules_all_residual_but_the_first_and_the_last() -> None:
    net, _ = on_paper(partial(Xception, as_published=True))
    assert isinstance(net.features, nn.Sequential)
    assert [isinstance(module, Residual) for module in net.features] == [False, *[True] * 12, False]
    shortcuts = [module for name, module in net.named_modules() if "shortcut." in name]
    convolutions = [layer for layer in layers(net) if isinstance(layer, nn.Conv2d) and layer not in shortcuts]
    separable = len(depthwise_places(net))  # of two convolutions in torch, of one in the paper's count
    assert len(convolutions) - separable == 36
    assert sum(isinstance(layer, nn.Conv2d) for layer in shortcuts) == 4


def test_weight_decay_leaves_the_depthwise_filters_of_mobilenet_alone() -> None:
    net = MobileNet(width=0.25, optimizer=partial(torch.optim.SGD, lr=0.1, weight_decay=0.5))
    groups = net.configure_optimizers().param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert all(filters.shape[1:] == (1, 3, 3) for filters in groups[1]["params"])
    assert len(groups[1]["params"]) == 13
    assert sum(p.numel() for group in groups for p in group["params"]) == parameters(net)


def layers_on_paper(make: Callable[[], ImageClassifier], in_channels: int = 3) -> dict[str, Layer]:
    return {layer.name: layer for layer in trace(*on_paper(make, in_channels))}


def test_separable_convolutions_save_what_the_paper_of_mobilenet_says() -> None:
    net, images = on_paper(partial(MobileNet, **IMAGENET))
    listed = trace(net, images)
    done, instead = separable_macs(listed)
    macs = sum(layer.macs for layer in listed)
    assert macs / 1e6 == pytest.approx(569, rel=0.002)
    assert (macs - done + instead) / 1e6 == pytest.approx(4866, rel=0.002)  # Howard et al., Table 4: "Conv MobileNet"


@pytest.mark.parametrize(
    ("make", "in_channels", "layer", "size"),
    [
        (partial(LeNet5, as_published=True), 1, "features.8", 32),  # C5 sees all of the 32x32 image
        (partial(AlexNet, **IMAGENET), 3, "features.14", 195),  # the last pooling
        (partial(ResNet, depth=18, **IMAGENET), 3, "features.4.1.relu", 435),  # through sums, of the wider branch
        (partial(ResNet, depth=50, **IMAGENET), 3, "features.4.2.relu", 483),  # 427 with the stride on the 3x3
    ],
)
def test_receptive_fields_of_published_nets_are_the_known_ones(
    make: Callable[[], ImageClassifier], in_channels: int, layer: str, size: int
) -> None:
    field = layers_on_paper(make, in_channels)[layer].field
    assert field is not None
    assert field.size == size


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(ResNet, depth=17), "model.depth=17: choose one of 18, 20, 32, 34, 44, 50, 56, 101, 110, 152, 1202"),
        (partial(ResNet, width=0), "model.width=0"),
        (partial(MobileNet, width=-1), "model.width=-1"),
        (partial(Xception, width=0), "model.width=0"),
        (partial(Xception, middle=-1), "model.middle=-1"),
    ],
)
def test_impossible_depth_or_width_is_refused_by_name(make: Callable[[], ImageClassifier], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
