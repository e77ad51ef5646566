"""MobileNet: A. Howard et al., "MobileNets: Efficient CNNs for Mobile Vision Applications", 2017."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Unpack

from torch import Tensor, nn

from classic_cnn.classifier import ImageClassifier, Recipe
from datamodules.contract import Count, Positive

# Table 1: output channels and stride of each depthwise separable convolution after the stem's 32 channels.
LARGE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# The same channels for 28x28 images: the two last strides are dropped.
SMALL = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 1), *[(512, 1)] * 5, (1024, 1), (1024, 1))


class DepthwiseSeparable(nn.Sequential):
    """A 3x3 filter per channel, then a 1x1 convolution that mixes the channels, both with BN and ReLU (Figure 3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )


def standard(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """The 3x3 convolution in place of which a depthwise separable one stands (Figure 3, left)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
    )


class MobileNet(ImageClassifier):
    """MobileNet (version 1) for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form. Deviations from the paper: half the channels (width 0.5), a stem with stride 1 and
    two strides of 2 instead of five, SGD instead of RMSprop.

    `MobileNet.published()` is the paper's net, (N, 3, 224, 224) -> (N, 1000), with 4,231,976 parameters. Deviations
    from the paper: the last depthwise convolution has stride 1, which is what the sizes in Table 1 need though it
    prints s2; He's initialization, for the paper names none; SGD instead of RMSprop, of which it says
    only that it is Inception V3's.

    Args:
        width: the multiplier alpha of section 3.3, a factor of the channels of every layer: 1, 0.75, 0.5 or 0.25 in
            the paper, any positive number here.
        layout: `small`, with strides for images of about 28 pixels, or `large`, the paper's for about 224.
        separable: False has standard 3x3 convolutions, the net that Table 4 compares with.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`; the depthwise filters have no weight decay (section 3.2).

    Raises:
        ValueError: the images are too small.

    >>> import torch
    >>> net = MobileNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 823434)
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        "width": 1.0,
        "layout": "large",
        "in_channels": 3,
        "num_classes": 1000,
        "image_size": 224,
    }

    def __init__(
        self,
        width: Positive = 0.5,
        layout: Literal["small", "large"] = "small",
        separable: bool = True,
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        channels = max(1, round(32 * width))
        stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride=1 if layout == "small" else 2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        layers = [stem]  # (N, 16, 28, 28), published (N, 32, 112, 112)
        for full_channels, stride in SMALL if layout == "small" else LARGE:
            out_channels = max(1, round(full_channels * width))
            layers.append((DepthwiseSeparable if separable else standard)(channels, out_channels, stride))
            channels = out_channels
        self.features = nn.Sequential(*layers)  # (N, 512, 7, 7), published (N, 1024, 7, 7)
        self.shape_after(self.features)  # refuses images that are too small
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters but the depthwise filters, and those without weight decay: they have so few (section 3.2)."""
        filters = [m.weight for m in self.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
        depthwise = {id(weight) for weight in filters}
        others = [parameter for parameter in self.parameters() if id(parameter) not in depthwise]
        return [{"params": others}, {"params": filters, "weight_decay": 0.0}]

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
