"""Xception: F. Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2017."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Unpack

from torch import Tensor, nn

from classic_cnn.classifier import ImageClassifier, Recipe
from datamodules.contract import Count, Index, Positive, Share


class SeparableConv(nn.Sequential):
    """A 3x3 filter per channel, mixed by a 1x1 convolution without a ReLU between them (section 4.7), then BN."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class Residual(nn.Module):
    """A module of Figure 5 with its shortcut, which is a 1x1 convolution with BN where the shape changes."""

    def __init__(self, residual: nn.Sequential, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut: nn.Sequential | None = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))

    def forward(self, images: Tensor) -> Tensor:
        residual = self.residual(images)
        return residual if self.shortcut is None else residual + self.shortcut(images)


def flow_module(in_channels: int, hidden: int, out_channels: int, stride: int, relu_first: bool = True) -> Residual:
    """A module of the entry or exit flow: two separable convolutions, and max pooling where the stride is 2."""
    residual = nn.Sequential(
        SeparableConv(in_channels, hidden),
        nn.ReLU(),
        SeparableConv(hidden, out_channels),
    )
    if relu_first:
        residual.insert(0, nn.ReLU())
    if stride == 2:
        residual.append(nn.MaxPool2d(3, stride=2, padding=1))
    return Residual(residual, in_channels, out_channels, stride)


def middle_module(channels: int) -> Residual:
    """A module of the middle flow: three times a ReLU and a separable convolution."""
    residual = nn.Sequential(
        nn.ReLU(),
        SeparableConv(channels, channels),
        nn.ReLU(),
        SeparableConv(channels, channels),
        nn.ReLU(),
        SeparableConv(channels, channels),
    )
    return Residual(residual, channels, channels)


class Xception(ImageClassifier):
    """Xception for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form. Deviations from the paper: a quarter of the channels (width 0.25), a stem with
    stride 1 and padding, three strides of 2 instead of five, He's initialization, a weight decay of 5e-4 instead of
    1e-5.

    `Xception.published()` is the paper's net (Figure 5), (N, 3, 299, 299) -> (N, 1000), with 22,855,952 parameters: 36
    convolutions in 14 modules. No deviations from the paper in the layers: no fully connected ones before the
    classifier, which are optional there; the first two convolutions are unpadded as in the author's Keras net. Glorot's
    uniform initialization is Keras's default, for the paper names none.

    Args:
        width: factor of the channels of every layer.
        middle: number of modules in the middle flow, 8 in the paper.
        shortcuts: False leaves the residual connections out (section 4.6).
        relu_between: a ReLU between the two parts of each separable convolution (section 4.7).
        layout: `small`, with strides for images of about 28 pixels, or `large`, the paper's for about 299.
        dropout: probability to drop a feature before the classifier (section 4.3).
        initialization: of the weights, He's or Glorot's.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the images are too small.

    >>> import torch
    >>> net = Xception()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 1354700)
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        "width": 1.0,
        "layout": "large",
        "initialization": "glorot",
        "in_channels": 3,
        "num_classes": 1000,
        "image_size": 299,
    }

    def __init__(
        self,
        width: Positive = 0.25,
        middle: Index = 8,
        shortcuts: bool = True,
        relu_between: bool = False,
        layout: Literal["small", "large"] = "small",
        dropout: Share = 0.5,
        initialization: Literal["he", "glorot"] = "he",
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        c32, c64, c128, c256, c728, c1024, c1536, c2048 = (
            max(1, round(channels * width)) for channels in (32, 64, 128, 256, 728, 1024, 1536, 2048)
        )
        padding, stride = (1, 1) if layout == "small" else (0, 2)
        stem = nn.Sequential(
            nn.Conv2d(in_channels, c32, 3, stride, padding, bias=False),
            nn.BatchNorm2d(c32),
            nn.ReLU(),
            nn.Conv2d(c32, c64, 3, 1, padding, bias=False),
            nn.BatchNorm2d(c64),
            nn.ReLU(),
        )
        end = nn.Sequential(
            SeparableConv(c1024, c1536),
            nn.ReLU(),
            SeparableConv(c1536, c2048),
            nn.ReLU(),
        )
        self.features = nn.Sequential(
            stem,  # (N, 16, 28, 28), published (N, 64, 147, 147)
            flow_module(c64, c128, c128, 2, relu_first=False),  # (N, 32, 14, 14), published (N, 128, 74, 74)
            flow_module(c128, c256, c256, 2),  # (N, 64, 7, 7), published (N, 256, 37, 37)
            flow_module(c256, c728, c728, stride),  # (N, 182, 7, 7), published (N, 728, 19, 19)
            *(middle_module(c728) for _ in range(middle)),
            flow_module(c728, c728, c1024, 2),  # (N, 256, 4, 4), published (N, 1024, 10, 10)
            end,  # (N, 512, 4, 4), published (N, 2048, 10, 10)
        )
        for module in list(self.features.modules()):
            if isinstance(module, Residual) and not shortcuts:
                module.shortcut = None
            if isinstance(module, SeparableConv) and relu_between:
                module.insert(1, nn.ReLU())
        self.shape_after(self.features)  # refuses images that are too small
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(c2048, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and initialization == "glorot":
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.classifier[-1].bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
