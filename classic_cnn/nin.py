"""NiN: M. Lin, Q. Chen, S. Yan, "Network In Network", 2013."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Unpack

from torch import Tensor, nn

from classic_cnn.classifier import ImageClassifier, Recipe
from datamodules.contract import Count, Positive, Share


class Configuration(NamedTuple):
    """The output channels and first kernel size of the three mlpconv layers; the last one ends with the classes."""

    out_channels: Sequence[Sequence[int]]
    kernel_sizes: Sequence[int]


# From the authors' own files (github.com/mavenlin/cuda-convnet), for the paper prints no widths; both pool by maxima.
CONFIGURATIONS = {
    "mnist": Configuration(((96, 64, 48), (128, 96, 48), (128, 96)), (5, 5, 5)),
    "cifar10": Configuration(((192, 160, 96), (192, 192, 192), (192, 192)), (5, 5, 3)),
}


def mlpconv(in_channels: int, out_channels: Sequence[int], kernel_size: int, batch_norm: bool) -> list[nn.Module]:
    """A convolution and then 1x1 convolutions: a small perceptron that slides over the image (section 3.1)."""
    layers: list[nn.Module] = []
    for channels in out_channels:
        layers.append(nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU())
        in_channels, kernel_size = channels, 1
    return layers


class NiN(ImageClassifier):
    """Network in Network for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form, with the channels of the authors' net for MNIST. Deviations from the paper: batch
    normalization and less dropout, no ReLU after the last convolution (it can silence a class for good), He's
    initialization.

    `NiN.published()` is the paper's net for CIFAR-10, from the authors' configuration: (N, 3, 32, 32) -> (N, 10) with
    966,986 parameters, weights from N(0, 0.05). No deviations from the paper.

    Args:
        configuration: the data set that the authors chose the channels for.
        width: factor of the channels of all layers but the last.
        one_by_one: False leaves out all 1x1 convolutions but the last, which makes each mlpconv layer a convolution.
        head: global average pooling; or what Table 5 compares it with, a fully connected layer that reads the same
            feature maps, without dropout before it or with half of them dropped.
        batch_norm: batch normalization before each ReLU.
        output_relu: a ReLU after the last convolution.
        dropout: probability to drop an activation between two mlpconv layers (section 4).
        initialization: `he`, or `normal` for weights from N(0, 0.05).
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the images are too small.

    >>> import torch
    >>> net = NiN()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 350378)
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        "configuration": "cifar10",
        "batch_norm": False,
        "output_relu": True,
        "dropout": 0.5,
        "initialization": "normal",
        "in_channels": 3,
        "image_size": 32,
    }

    def __init__(
        self,
        configuration: Literal["mnist", "cifar10"] = "mnist",
        width: Positive = 1.0,
        one_by_one: bool = True,
        head: Literal["average", "linear", "dropout_linear"] = "average",
        batch_norm: bool = True,
        output_relu: bool = False,
        dropout: Share = 0.2,
        initialization: Literal["he", "normal"] = "he",
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        out_channels, kernel_sizes = CONFIGURATIONS[configuration]
        first, second, third = (
            [max(1, round(channels * width)) for channels in block[: None if one_by_one else 1]]
            for block in out_channels
        )
        layers = mlpconv(in_channels, first, kernel_sizes[0], batch_norm)  # (N, 48, 28, 28)
        layers += [nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.Dropout(dropout)]  # (N, 48, 14, 14)
        layers += mlpconv(first[-1], second, kernel_sizes[1], batch_norm)  # (N, 48, 14, 14)
        layers += [nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.Dropout(dropout)]  # (N, 48, 7, 7)
        layers += mlpconv(second[-1], third, kernel_sizes[2], batch_norm)  # (N, 96, 7, 7)
        layers.append(nn.Conv2d(third[-1], num_classes, 1))  # one feature map per class (N, 10, 7, 7)
        if output_relu:
            layers.append(nn.ReLU())
        self.features = nn.Sequential(*layers)
        maps = self.shape_after(self.features)  # refuses images that are too small
        if head == "average":  # section 3.2
            self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        else:
            dropped = nn.Dropout(0.5 if head == "dropout_linear" else 0.0)
            self.classifier = nn.Sequential(nn.Flatten(), dropped, nn.Linear(math.prod(maps), num_classes))
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                if initialization == "he":
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(module.weight, std=0.05)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
