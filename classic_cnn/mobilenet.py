"""MobileNet: A. Howard et al., "MobileNets: Efficient CNNs for Mobile Vision Applications", 2017."""

from typing import Any, Unpack

from torch import Tensor, nn

from classic_cnn.classifier import ImageClassifier, Recipe

# Table 1: maps and stride of each depthwise separable convolution after the stem's 32 maps.
PUBLISHED = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# The same maps for 28x28 images: the two last strides are dropped.
NATIVE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 1), *[(512, 1)] * 5, (1024, 1), (1024, 1))


class DepthwiseSeparable(nn.Sequential):
    """A 3x3 filter for each map, then a 1x1 convolution that mixes the maps, both with BN and ReLU (Figure 3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
        super().__init__(
            *(depthwise, nn.BatchNorm2d(in_channels), nn.ReLU()),
            *(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()),
        )


class MobileNet(ImageClassifier):
    """MobileNet (version 1) for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form. Differs from the paper: half the maps (width 0.5), a stem with stride 1 and two
    strides of 2 instead of five.

    Args:
        width: the multiplier alpha of section 3.3, which thins every layer: 1, 0.75, 0.5 or 0.25 in the paper, any
            number above 0 here. None is 1 as published and 0.5 in the native form.
        as_published: the paper's net, (N, 3, 224, 224) -> (N, 1000) with 4,231,976 parameters when `in_channels` is 3
            and `num_classes` 1000. Differs from the paper: the last depthwise convolution has stride 1, which is what
            the sizes in Table 1 need though it prints s2; He's initialization, for the paper names none.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: number of scores an image.
        recipe: see `ImageClassifier`; weight decay leaves the depthwise filters alone (section 3.2).

    Raises:
        ValueError: `width` is not positive.

    >>> import torch
    >>> net = MobileNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 823434)
    """

    def __init__(
        self,
        width: float | None = None,
        as_published: bool = False,
        in_channels: int = 1,
        num_classes: int = 10,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(**recipe)
        if width is None:
            width = 1.0 if as_published else 0.5
        if width <= 0:
            raise ValueError(f"model.width={width}: a number above 0 is needed (null for the default)")
        self.image_size = 224 if as_published else 28
        maps = max(1, round(32 * width))
        stem = nn.Conv2d(in_channels, maps, 3, stride=2 if as_published else 1, padding=1, bias=False)
        layers = [nn.Sequential(stem, nn.BatchNorm2d(maps), nn.ReLU())]  # (N, 16, 28, 28), (N, 32, 112, 112)
        for channels, stride in PUBLISHED if as_published else NATIVE:  # (N, 512, 7, 7), (N, 1024, 7, 7)
            inputs, maps = maps, max(1, round(channels * width))
            layers.append(DepthwiseSeparable(inputs, maps, stride))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, num_classes))
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
