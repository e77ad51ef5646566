"""Xception: F. Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2017."""

from typing import Unpack

from torch import Tensor, nn

from classic_cnn.classifier import ImageClassifier, Recipe


def separable(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    """A 3x3 filter for each map, at once mixed by a 1x1 convolution: no ReLU between them (section 4.7), then BN."""
    depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
    return depthwise, nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)


class Residual(nn.Module):
    """A module of Figure 5 beside its shortcut; where the shape changes, that is a 1x1 convolution with BN."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *layers: nn.Module) -> None:
        super().__init__()
        self.residual = nn.Sequential(*layers)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))

    def forward(self, maps: Tensor) -> Tensor:
        return self.residual(maps) + self.shortcut(maps)


def pooled_module(in_channels: int, hidden: int, out_channels: int, stride: int, relu_first: bool = True) -> Residual:
    """Two separable convolutions of the entry or the exit flow; max pooling where the stride is 2."""
    return Residual(
        *(in_channels, out_channels, stride),
        *([nn.ReLU()] if relu_first else []),
        *(*separable(in_channels, hidden), nn.ReLU()),
        *separable(hidden, out_channels),
        *([nn.MaxPool2d(3, stride=2, padding=1)] if stride == 2 else []),
    )


def middle_module(channels: int) -> Residual:
    """Three times a ReLU and a separable convolution."""
    layers = [layer for _ in range(3) for layer in (nn.ReLU(), *separable(channels, channels))]
    return Residual(channels, channels, 1, *layers)


class Xception(ImageClassifier):
    """Xception for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form. Differs from the paper: a quarter of the maps (width 0.25), a stem with stride 1
    and padding, three strides of 2 instead of five, He's initialization.

    Args:
        width: multiplies the maps of every layer; None is 1 as published and 0.25 in the native form.
        middle: number of modules in the middle flow, 8 in the paper.
        as_published: the paper's net (Figure 5), (N, 3, 299, 299) -> (N, 1000) with 22,855,952 parameters when
            `in_channels` is 3 and `num_classes` 1000: 36 convolutions in 14 modules. Differs from the paper: none in
            the layers (no fully connected ones before the classifier, which are optional there; the first two
            convolutions are unpadded as in the author's Keras net); Glorot's uniform initialization, which is Keras's
            default, for the paper names none.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: number of scores an image.
        dropout: probability to drop a feature before the classifier (section 4.3).
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: `width` is not positive or `middle` is negative.

    >>> import torch
    >>> net = Xception()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 1354700)
    """

    def __init__(
        self,
        width: float | None = None,
        middle: int = 8,
        as_published: bool = False,
        in_channels: int = 1,
        num_classes: int = 10,
        dropout: float = 0.5,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(**recipe)
        if width is None:
            width = 1.0 if as_published else 0.25
        if width <= 0:
            raise ValueError(f"model.width={width}: a number above 0 is needed (null for the default)")
        if middle < 0:
            raise ValueError(f"model.middle={middle}: a number of modules from 0 on is needed")
        self.image_size = 299 if as_published else 28
        c32, c64, c128, c256, c728, c1024, c1536, c2048 = (
            max(1, round(maps * width)) for maps in (32, 64, 128, 256, 728, 1024, 1536, 2048)
        )
        padding, stride = (0, 2) if as_published else (1, 1)
        stem = nn.Sequential(
            *(nn.Conv2d(in_channels, c32, 3, stride, padding, bias=False), nn.BatchNorm2d(c32), nn.ReLU()),
            *(nn.Conv2d(c32, c64, 3, 1, padding, bias=False), nn.BatchNorm2d(c64), nn.ReLU()),
        )
        last = nn.Sequential(*(*separable(c1024, c1536), nn.ReLU()), *(*separable(c1536, c2048), nn.ReLU()))
        self.features = nn.Sequential(  # native, published
            stem,  # (N, 16, 28, 28), (N, 64, 147, 147)
            pooled_module(c64, c128, c128, 2, relu_first=False),  # (N, 32, 14, 14), (N, 128, 74, 74)
            pooled_module(c128, c256, c256, 2),  # (N, 64, 7, 7), (N, 256, 37, 37)
            pooled_module(c256, c728, c728, stride),  # (N, 182, 7, 7), (N, 728, 19, 19)
            *(middle_module(c728) for _ in range(middle)),
            pooled_module(c728, c728, c1024, 2),  # (N, 256, 4, 4), (N, 1024, 10, 10)
            last,  # (N, 512, 4, 4), (N, 2048, 10, 10)
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(c2048, num_classes)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and as_published:
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.classifier[-1].bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
