"""Every net in its paper's form: layer sizes, parameters and operations against the papers' own tables."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from nets import Size, count, layer_sizes, million_macs, on_meta
from torch import Tensor, nn

from classic_cnn.alexnet import AlexNet
from classic_cnn.classifier import ImageClassifier
from classic_cnn.googlenet import GoogLeNet
from classic_cnn.lenet import LeNet5
from classic_cnn.mobilenet import MobileNet
from classic_cnn.nin import NiN
from classic_cnn.resnet import ResNet
from classic_cnn.vgg import VGG
from classic_cnn.xception import Xception
from classic_cnn.zfnet import ZFNet
from tasks.layer_summary import trace

HIDDEN: list[Size] = [(4096,), (4096,), (1000,)]
GRAY = {"in_channels": 1, "num_classes": 10}


class Published(NamedTuple):
    """What a paper says of its net; None where it says nothing."""

    make: Callable[[], ImageClassifier]
    parameters: int
    layers: list[Size] | None = None  # each convolution, pooling and linear layer, in order
    stages: list[Size] | None = None  # each stage, that is, child of `features`
    million_macs: int | None = None


def vgg(*convolutions: int) -> list[Size]:
    """Table 1 of the VGG paper: convolutions per stage at 224, 112, 56, 28 and 14 pixels, each stage with a pooling."""
    stages = zip((64, 128, 256, 512, 512), (224, 112, 56, 28, 14), convolutions, strict=True)
    sizes = [[(channels, side)] * count + [(channels, side // 2)] for channels, side, count in stages]
    return [size for stage in sizes for size in stage] + HIDDEN


# Lin et al., the authors' configuration for CIFAR-10 (github.com/mavenlin/cuda-convnet, NIN/cifar-10_def).
NIN: list[Size] = [
    *((192, 32), (160, 32), (96, 32), (96, 16)),
    *((192, 16), (192, 16), (192, 16), (192, 8)),
    *((192, 8), (192, 8), (10, 8)),
]
# He et al., Table 1: output sizes of conv2_x's pooling and of conv2_x to conv5_x, for basic blocks and bottlenecks.
RESNET_BASIC: list[Size] = [(64, 56), (64, 56), (128, 28), (256, 14), (512, 7)]
RESNET_BOTTLENECK: list[Size] = [(64, 56), (256, 56), (512, 28), (1024, 14), (2048, 7)]
# He et al., section 4.2: 16, 32 and 64 feature maps of 32x32, 16x16 and 8x8.
RESNET_CIFAR: list[Size] = [(16, 32), (16, 32), (32, 16), (64, 8)]
# Howard et al., Table 1: "Conv / s2" and each pair of "Conv dw" and 1x1 "Conv".
MOBILENET: list[Size] = [
    *((32, 112), (64, 112), (128, 56), (128, 56), (256, 28), (256, 28)),
    *[(512, 14)] * 6,
    *((1024, 7), (1024, 7)),
]
# Chollet, Figure 5: the entry flow makes 19x19x728 feature maps out of 299x299x3, the middle flow keeps them; the sizes
# that the figure does not give are those of the author's net, keras.applications.Xception.
XCEPTION: list[Size] = [(64, 147), (128, 74), (256, 37), (728, 19), *[(728, 19)] * 8, (1024, 10), (2048, 10)]

PUBLISHED = {
    # LeCun et al., Table I and Figure 2; test_lenet.py has its layers.
    "lenet": Published(LeNet5.published, 60_000),
    # Krizhevsky et al., section 3.5 and Figure 2: 55x55x96, 27x27x256, 13x13x384, 13x13x384, 13x13x256; "60 million".
    "alexnet": Published(
        AlexNet.published,
        60_965_224,
        [(96, 55), (96, 27), (256, 27), (256, 13), (384, 13), (384, 13), (256, 13), (256, 6), *HIDDEN],
    ),
    # A. Zhang et al., "Dive into Deep Learning", section 8.1: the shapes that it prints for a gray 224x224 image.
    "alexnet_one_gpu": Published(
        partial(AlexNet.published, layout="one_gpu", image_size=224, **GRAY),
        46_764_746,
        [(96, 54), (96, 26), (256, 26), (256, 12), (384, 12), (384, 12), (256, 12), (256, 5), (4096,), (4096,), (10,)],
    ),
    # Zeiler and Fergus, Figure 3: 110, 55, 26, 13, 13, 13, 13 and 6 pixels.
    "zfnet": Published(
        ZFNet.published,
        62_357_608,
        [(96, 110), (96, 55), (256, 26), (256, 13), (384, 13), (384, 13), (256, 13), (256, 6), *HIDDEN],
    ),
    "nin": Published(NiN.published, 966_986, NIN),
    "nin_gray": Published(partial(NiN.published, in_channels=1), 957_386, NIN),
    # Simonyan and Zisserman, Table 1; Table 2 has 133, 133, 134, 138 and 144 million parameters for A, B, C, D and E.
    "vgg_a": Published(partial(VGG.published, depth=11), 132_863_336, vgg(1, 1, 2, 2, 2)),
    "vgg_b": Published(partial(VGG.published, depth=13), 133_047_848, vgg(2, 2, 2, 2, 2)),
    "vgg_c": Published(partial(VGG.published, depth=16, one_by_one=True), 133_638_952, vgg(2, 2, 3, 3, 3)),
    "vgg_d": Published(partial(VGG.published, depth=16), 138_357_544, vgg(2, 2, 3, 3, 3)),
    "vgg_e": Published(partial(VGG.published, depth=19), 143_667_240, vgg(2, 2, 4, 4, 4)),
    # "Dive into Deep Learning", section 8.2: a quarter of the channels, all hidden units, 43.1 million parameters.
    "vgg_a_quarter": Published(
        partial(VGG.published, depth=11, width=0.25, hidden_units=4 * 4096, **GRAY),
        43_093_322,
        [
            *((16, 224), (16, 112), (32, 112), (32, 56), (64, 56), (64, 56), (64, 28)),
            *((128, 28), (128, 28), (128, 14), (128, 14), (128, 14), (128, 7), (4096,), (4096,), (10,)),
        ],
    ),
    # Szegedy et al.: 6.8 million parameters by the paper's own numbers; test_googlenet.py has Table 1.
    "googlenet": Published(partial(GoogLeNet.published, auxiliary=False), 6_998_552),
    "googlenet_gray": Published(partial(GoogLeNet.published, auxiliary=False, **GRAY), 5_977_530),
    # He et al.: FLOPs of Table 1, parameters of torchvision's documentation; for CIFAR-10 Table 6 (0.27M to 19.4M
    # parameters, no FLOPs).
    "resnet_18": Published(partial(ResNet.published, depth=18), 11_689_512, None, RESNET_BASIC, 1_800),
    "resnet_34": Published(partial(ResNet.published, depth=34), 21_797_672, None, RESNET_BASIC, 3_600),
    "resnet_50": Published(partial(ResNet.published, depth=50), 25_557_032, None, RESNET_BOTTLENECK, 3_800),
    "resnet_101": Published(partial(ResNet.published, depth=101), 44_549_160, None, RESNET_BOTTLENECK, 7_600),
    "resnet_152": Published(partial(ResNet.published, depth=152), 60_192_808, None, RESNET_BOTTLENECK, 11_300),
    "resnet_20": Published(ResNet.published, 269_722, None, RESNET_CIFAR),
    "resnet_32": Published(partial(ResNet.published, depth=32), 464_154, None, RESNET_CIFAR),
    "resnet_44": Published(partial(ResNet.published, depth=44), 658_586, None, RESNET_CIFAR),
    "resnet_56": Published(partial(ResNet.published, depth=56), 853_018, None, RESNET_CIFAR),
    "resnet_110": Published(partial(ResNet.published, depth=110), 1_727_962, None, RESNET_CIFAR),
    "resnet_1202": Published(partial(ResNet.published, depth=1202), 19_421_274, None, RESNET_CIFAR),
    # Howard et al., Table 6: 4.2, 2.6, 1.3 and 0.5 million parameters.
    "mobilenet": Published(MobileNet.published, 4_231_976, None, MOBILENET, 569),
    "mobilenet_0.75": Published(partial(MobileNet.published, width=0.75), 2_585_560, million_macs=325),
    "mobilenet_0.5": Published(partial(MobileNet.published, width=0.5), 1_331_592, million_macs=149),
    "mobilenet_0.25": Published(partial(MobileNet.published, width=0.25), 470_072, million_macs=41),
    # Chollet, Table 3.
    "xception": Published(Xception.published, 22_855_952, None, XCEPTION),
}

# For gray 28x28 images and 10 classes.
NATIVE: dict[str, tuple[Callable[[], ImageClassifier], int]] = {
    "resnet_20": (ResNet, 269_434),
    "resnet_32": (partial(ResNet, depth=32), 463_866),
    "resnet_44": (partial(ResNet, depth=44), 658_298),
    "resnet_56": (partial(ResNet, depth=56), 852_730),
    "resnet_110": (partial(ResNet, depth=110), 1_727_674),
    "resnet_18": (partial(ResNet, depth=18), 11_172_810),
    "mobilenet": (partial(MobileNet, width=1.0), 3_216_650),
    "mobilenet_0.25": (partial(MobileNet, width=0.25), 215_498),
    "xception": (partial(Xception, width=1.0), 20_826_866),
}

DEEPEST = ("resnet_152", "resnet_1202")  # seconds to build


def stage_sizes(net: ImageClassifier, signal: Tensor) -> list[Size]:
    assert isinstance(net.features, nn.Sequential)
    return [tuple((signal := stage(signal)).shape[1:3]) for stage in net.features]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.extended) if name in DEEPEST else name for name in PUBLISHED]
)
def test_published_net_has_the_sizes_parameters_and_operations_of_its_paper(name: str) -> None:
    expected = PUBLISHED[name]
    net, images = on_meta(expected.make)
    assert count(net) == expected.parameters
    assert net(images).shape == (1, net.num_classes)
    if expected.layers is not None:
        assert layer_sizes(net, images) == expected.layers
    if expected.stages is not None:
        assert stage_sizes(net, images) == expected.stages
    if expected.million_macs is not None:
        assert million_macs(net, images) == pytest.approx(expected.million_macs, rel=0.02)


@pytest.mark.parametrize("name", NATIVE)
def test_native_net_has_as_many_parameters_as_expected(name: str) -> None:
    make, parameters = NATIVE[name]
    net, images = on_meta(make)
    assert net(images).shape == (1, 10)
    assert count(net) == parameters


@pytest.mark.parametrize("make", [ResNet, MobileNet, Xception])
def test_native_net_is_small_and_ends_with_feature_maps_of_at_least_4x4(make: Callable[[], ImageClassifier]) -> None:
    net, images = on_meta(make)
    assert 10 < million_macs(net, images) < 60
    assert stage_sizes(net, images)[-1][1] >= 4


@pytest.mark.parametrize(
    ("make", "layer", "size"),
    [
        (LeNet5.published, "features.8", 32),  # C5 sees all of the 32x32 image
        (AlexNet.published, "features.14", 195),  # the last pooling
        (partial(ResNet.published, depth=18), "features.4.1.relu", 435),  # through sums, of the wider branch
        (partial(ResNet.published, depth=50), "features.4.2.relu", 483),  # 427 with the stride in the 3x3
    ],
)
def test_receptive_fields_of_published_nets_are_the_known_ones(
    make: Callable[[], ImageClassifier], layer: str, size: int
) -> None:
    fields = {row.name: row.field for row in trace(*on_meta(make))}
    field = fields[layer]
    assert field is not None
    assert field.size == size
