"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classic_cnn.classifier import ACTIVATIONS, Activation, ImageClassifier, Recipe
from datamodules.contract import Count

# Table I: for each of C3's sixteen feature maps, the maps of S2 that it reads.
# fmt: off
C3_READS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),  # three neighbours
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),  # four neighbours
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),  # two pairs
    (0, 1, 2, 3, 4, 5),
)
# fmt: on

# The 7x12 bitmaps that F6 is to draw, after Figure 3: twelve rows for each digit, seven pixels per row.
BITMAPS = """
..###.. ...##.. .#####. .#####. .....#. ####### ..####. ####### .#####. .#####.
.##.##. ..###.. ##...## ##...## ....##. ##..... .##.... ##...## ##...## ##...##
##...## .####.. .....## .....## ...###. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## ..####. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ....##. .##.##. ######. ######. ....##. .##.##. ##...##
##...## ...##.. ...##.. ..###.. ##..##. .....## ##...## ...##.. ..###.. .######
##...## ...##.. ..##... ....##. ####### .....## ##...## ...##.. .##.##. .....##
##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## ....##. ##...## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ....##. ##...## .##.##. ..##... ##...## ....##.
..###.. .###### ####### .#####. ....##. .#####. ..###.. ..##... .#####. .####..
"""


def digit_bitmaps() -> Tensor:
    """The targets of the output layer, (10, 84): +1 for ink, -1 for paper (section II.B).

    >>> digit_bitmaps().shape, digit_bitmaps().unique().tolist()
    (torch.Size([10, 84]), [-1.0, 1.0])
    """
    rows = [line.split() for line in BITMAPS.split("\n") if line]
    return torch.tensor([[2.0 * (pixel == "#") - 1 for row in rows for pixel in row[digit]] for digit in range(10)])


class ScaledTanh(nn.Module):
    """f(a) = 1.7159 tanh(2a/3), which maps +-1 to +-1 (appendix A)."""

    def forward(self, activation: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(activation * (2 / 3))


class Subsampling(nn.Module):
    """S2 and S4: the sum of 2x2 pixels, times a trainable coefficient, plus a trainable bias, both per feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, feature_maps: Tensor) -> Tensor:
        return F.avg_pool2d(feature_maps, 2) * 4 * self.coefficient + self.bias


class SparseConvolution(nn.Module):
    """C3: a 5x5 convolution in which each output channel reads only some input channels, and has weights only for them.

    Args:
        reads: for each output channel, the input channels that it reads.
    """

    def __init__(self, reads: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.shape = (len(reads), 1 + max(max(sources) for sources in reads), 5, 5)
        self.weight = nn.Parameter(torch.empty(sum(len(sources) for sources in reads), 5, 5))
        self.bias = nn.Parameter(torch.empty(len(reads)))
        pairs = [(target, source) for target, sources in enumerate(reads) for source in sources]
        self.register_buffer("pairs", torch.tensor(pairs).T, persistent=False)  # (2, connections)
        self.pairs: Tensor

    def forward(self, feature_maps: Tensor) -> Tensor:
        dense = self.weight.new_zeros(self.shape).index_put(tuple(self.pairs), self.weight)  # (16, 6, 5, 5)
        return F.conv2d(feature_maps, dense, self.bias)


class BitmapDistance(nn.Module):
    """The output layer: minus the squared distance of F6's 84 activations to each class's fixed bitmap (eq. 7)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bitmaps", digit_bitmaps(), persistent=False)
        self.bitmaps: Tensor

    def forward(self, activations: Tensor) -> Tensor:  # (N, 84) -> (N, 10)
        return -(activations.unsqueeze(1) - self.bitmaps).square().sum(2)


class LeNet5(ImageClassifier):
    """LeNet-5 for gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the form in use today, with 61,706 parameters. Deviations from the paper: C3 reads all maps, ReLU
    instead of tanh, max pooling instead of trainable subsampling, a linear output with softmax, 28x28 images padded by
    the first layer.

    `LeNet5.published()` is the paper's net, (N, 1, 32, 32) -> (N, 10), with 60,000 trainable parameters and 340,908
    connections. Deviations from the paper: the bitmaps are drawn after its Figure 3, j of equation 9 is our choice,
    images of 28x28 are enlarged to 32x32 where the paper adds a margin, and the net is trained in batches by the given
    recipe instead of image by image with the stochastic diagonal Levenberg-Marquardt method.

    Args:
        layout: `modern`, or `original` with the paper's layers: sparse C3, trainable subsampling, scaled tanh.
        bitmap_output: the output layer measures the distance to a fixed bitmap for each digit (section II.B);
            otherwise it is linear.
        activation: of the layout `modern`.
        pooling: of the layout `modern`.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the images are too small, the bitmaps of the 10 digits are to tell other classes apart, or an
            activation or a pooling is chosen for the original layers.

    >>> net = LeNet5()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 61706)
    >>> net = LeNet5.published()
    >>> net(torch.zeros(2, 1, 32, 32)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 60000)
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {"layout": "original", "bitmap_output": True, "image_size": 32}

    def __init__(
        self,
        layout: Literal["modern", "original"] = "modern",
        bitmap_output: bool = False,
        activation: Activation = "relu",
        pooling: Literal["max", "average"] = "max",
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        if bitmap_output and num_classes != len(digit_bitmaps()):
            raise ValueError(f"num_classes must be 10 with bitmap_output, whose bitmaps are digits, got {num_classes}")
        if layout == "original" and (activation, pooling) != ("relu", "max"):
            raise ValueError("activation and pooling are fixed in layout=original")
        self.layout = layout
        self.bitmap_output = bitmap_output
        output = BitmapDistance if bitmap_output else partial(nn.Linear, 84, num_classes)
        if layout == "modern":
            active = ACTIVATIONS[activation]
            pool = nn.MaxPool2d if pooling == "max" else nn.AvgPool2d
            self.features = modern_features(in_channels, active, pool)
            self.classifier = nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(self.shape_after(self.features)), 120),  # C5
                active(),
                nn.Linear(120, 84),  # F6
                active(),
                output(),
            )
        else:
            self.features = original_features(in_channels)
            self.classifier = nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(self.shape_after(self.features)), 84),  # F6
                ScaledTanh(),
                output(),
            )
            initialize_by_fan_in(self)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy; with bitmaps eq. 9, where an eleventh class, "none of them", has the fixed penalty j = 1."""
        if self.bitmap_output:
            logits = F.pad(logits, (0, 1), value=-1.0)  # (N, 11)
        return super().loss(logits, labels)

    def forward(self, images: Tensor) -> Tensor:
        if self.layout == "original":
            images = images * 0.6375 + 0.5375  # paper at -0.1, ink at 1.175: mean about 0, variance about 1 (II.B)
        return self.classifier(self.features(images))


def modern_features(in_channels: int, active: type[nn.Module], pool: type[nn.Module]) -> nn.Sequential:
    """The layers up to S4, as tutorials have them."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=2),  # C1 (N, 6, 28, 28)
        active(),
        pool(2),  # S2 (N, 6, 14, 14)
        nn.Conv2d(6, 16, 5),  # C3 (N, 16, 10, 10)
        active(),
        pool(2),  # S4 (N, 16, 5, 5)
    )


def original_features(in_channels: int) -> nn.Sequential:
    """Figure 2 up to C5, of a 32x32 image."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5),  # C1 (N, 6, 28, 28)
        ScaledTanh(),
        Subsampling(6),  # S2 (N, 6, 14, 14)
        ScaledTanh(),
        SparseConvolution(C3_READS),  # C3 (N, 16, 10, 10)
        ScaledTanh(),
        Subsampling(16),  # S4 (N, 16, 5, 5)
        ScaledTanh(),
        nn.Conv2d(16, 120, 5),  # C5 (N, 120, 1, 1)
        ScaledTanh(),
    )


def initialize_by_fan_in(net: nn.Module) -> None:
    """Draws all weights of a unit with F inputs uniformly from +-2.4/F (appendix A)."""
    for module in net.modules():
        if isinstance(module, Subsampling):
            fans = [torch.tensor(4.0)] * 2
        elif isinstance(module, SparseConvolution):  # 75, 100 or 150, depending on the map
            fans = [torch.tensor([25.0 * len(sources) for sources in C3_READS for _ in sources]).view(-1, 1, 1)]
            fans.append(torch.tensor([25.0 * len(sources) for sources in C3_READS]))
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fans = [torch.tensor(float(math.prod(module.weight.shape[1:])))] * 2
        else:
            continue
        for parameter, fan in zip(module.parameters(recurse=False), fans, strict=True):
            with torch.no_grad():
                parameter.uniform_(-2.4, 2.4).div_(fan)
