"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classic_cnn.classifier import ImageClassifier, Recipe

# Table I: which of S2's six maps each of C3's sixteen maps reads.
C3_READS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),  # three neighbours
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),  # four neighbours
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),  # two and two
    (0, 1, 2, 3, 4, 5),
)

# The 7x12 bitmaps that F6 is to draw, after Figure 3; each digit's twelve rows, seven pixels a row.
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
    """S2 and S4: the sum of 2x2 pixels, times a trainable coefficient a map, plus a trainable bias a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return F.avg_pool2d(maps, 2) * 4 * self.coefficient + self.bias


class SparseConvolution(nn.Module):
    """C3: a 5x5 convolution in which each map reads only some of the maps below; weights exist only where it reads."""

    def __init__(self, reads: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.shape = (len(reads), 1 + max(max(maps) for maps in reads), 5, 5)
        self.weight = nn.Parameter(torch.empty(sum(len(maps) for maps in reads), 5, 5))
        self.bias = nn.Parameter(torch.empty(len(reads)))
        pairs = [(to, source) for to, maps in enumerate(reads) for source in maps]
        self.register_buffer("pairs", torch.tensor(pairs).T, persistent=False)  # (2, connections)
        self.pairs: Tensor

    def forward(self, maps: Tensor) -> Tensor:
        dense = self.weight.new_zeros(self.shape).index_put(tuple(self.pairs), self.weight)  # (16, 6, 5, 5)
        return F.conv2d(maps, dense, self.bias)


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

    The default is the form used today, with 61,706 parameters. Differs from the paper: C3 reads all maps, ReLU for
    tanh, plain max pooling for trainable subsampling, a linear output with softmax, 28x28 images padded by the first
    layer.

    Args:
        as_published: the paper's net, (N, 1, 32, 32) -> (N, 10): sparse C3, trainable subsampling, scaled tanh,
            distances to fixed bitmaps: 60,000 trainable parameters, 340,908 connections. Differs from the paper: the
            bitmaps are drawn after its Figure 3, and it is trained with the recipe that is given rather than with the
            stochastic diagonal Levenberg-Marquardt method.
        bitmap_output: with `as_published`, whether the output layer is the paper's; otherwise it is linear.
        recipe: see `ImageClassifier`.

    >>> net = LeNet5()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 61706)
    >>> net = LeNet5(as_published=True)
    >>> net(torch.zeros(2, 1, 32, 32)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 60000)
    """

    def __init__(self, as_published: bool = False, bitmap_output: bool = True, **recipe: Unpack[Recipe]) -> None:
        super().__init__(**recipe)
        self.as_published = as_published
        if not as_published:
            self.features = nn.Sequential(
                *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU()),  # C1 (N, 6, 28, 28)
                nn.MaxPool2d(2),  # S2 (N, 6, 14, 14)
                *(nn.Conv2d(6, 16, 5), nn.ReLU()),  # C3 (N, 16, 10, 10)
                nn.MaxPool2d(2),  # S4 (N, 16, 5, 5)
            )
            self.classifier = nn.Sequential(
                nn.Flatten(),
                *(nn.Linear(16 * 5 * 5, 120), nn.ReLU()),  # C5
                *(nn.Linear(120, 84), nn.ReLU()),  # F6
                nn.Linear(84, 10),
            )
            return
        self.image_size = 32
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 6, 5), ScaledTanh()),  # C1 (N, 6, 28, 28)
            *(Subsampling(6), ScaledTanh()),  # S2 (N, 6, 14, 14)
            *(SparseConvolution(C3_READS), ScaledTanh()),  # C3 (N, 16, 10, 10)
            *(Subsampling(16), ScaledTanh()),  # S4 (N, 16, 5, 5)
            *(nn.Conv2d(16, 120, 5), ScaledTanh()),  # C5 (N, 120, 1, 1)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(120, 84), ScaledTanh()),  # F6
            BitmapDistance() if bitmap_output else nn.Linear(84, 10),
        )
        self.bitmap_output = bitmap_output
        initialize_by_fan_in(self)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy; as published eq. 9, where an eleventh class, "none of them", has the fixed penalty j = 1."""
        if self.as_published and self.bitmap_output:
            logits = F.pad(logits, (0, 1), value=-1.0)  # (N, 11)
        return super().loss(logits, labels)

    def forward(self, images: Tensor) -> Tensor:
        if self.as_published:
            images = images * 0.6375 + 0.5375  # paper at -0.1, ink at 1.175: mean about 0, variance about 1 (II.B)
        return self.classifier(self.features(images))


def initialize_by_fan_in(net: nn.Module) -> None:
    """Draws all weights of a unit with F inputs uniformly from +-2.4/F (appendix A)."""
    for module in net.modules():
        if isinstance(module, Subsampling):
            fans = [torch.tensor(4.0)] * 2
        elif isinstance(module, SparseConvolution):  # 75, 100 or 150, by its map
            fans = [torch.tensor([25.0 * len(maps) for maps in C3_READS for _ in maps]).view(-1, 1, 1)]
            fans.append(torch.tensor([25.0 * len(maps) for maps in C3_READS]))
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fans = [torch.tensor(float(math.prod(module.weight.shape[1:])))] * 2
        else:
            continue
        for parameter, fan in zip(module.parameters(recurse=False), fans, strict=True):
            with torch.no_grad():
                parameter.uniform_(-2.4, 2.4).div_(fan)
