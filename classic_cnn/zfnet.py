"""ZFNet: M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", 2013."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from classic_cnn.alexnet import RawPixelConv2d, ResponseNorm
from classic_cnn.classifier import ImageClassifier, Recipe
from datamodules.contract import Count, Positive, Share


class ZFNet(ImageClassifier):
    """ZFNet for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form. Deviations from the paper: half the channels, a 5x5 stem with stride 1, no pooling
    after the second convolution, 1024 units in the hidden layers, He's initialization, whose stem starts above
    `filter_rms` (0.28) and so is scaled down by the first step. Pixels are in [-1, 1]: the paper's bound, and AlexNet's
    constants of response normalization, are for values 128 times as large.

    `ZFNet.published()` is the paper's net (Figure 3), (N, 3, 224, 224) -> (N, 1000), with 62,357,608 parameters;
    biases 0, pixels that the first convolution scales to [-127.5, 127.5]. Deviations from the paper: its contrast
    normalization, of which it gives no constants, is AlexNet's, and its weights of 10^-2 are drawn from N(0, 0.01).

    Args:
        layout: `small` for images of about 28 pixels, or `large`, the paper's for about 224.
        width: factor of the channels and hidden units of the layout `small`.
        coarse_stem: AlexNet's proportions, which the paper refines (section 4.1), for the layout `small`: filters of
            7x7 at a stride of 2 in the first convolution, and a stride of 1 in the second.
        dropout: probability to drop a hidden unit of the two large layers (section 3).
        filter_rms: after each step, a convolution's filter whose root mean square is larger is scaled down to it
            (section 3); None leaves the filters alone.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the images are too small, or `width` or `coarse_stem` is set for the layout `large`.

    >>> net = ZFNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 3170154)
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        "layout": "large",
        "in_channels": 3,
        "num_classes": 1000,
        "image_size": 224,
    }

    def __init__(
        self,
        layout: Literal["small", "large"] = "small",
        width: Positive = 1.0,
        coarse_stem: bool = False,
        dropout: Share = 0.5,
        filter_rms: Positive | None = 0.1,
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        self.filter_rms = filter_rms
        if layout == "small":
            self.features = small_features(in_channels, width, coarse_stem)
        elif (width, coarse_stem) == (1.0, False):
            self.features = large_features(in_channels)
        else:
            raise ValueError(f"width and coarse_stem are fixed in layout={layout}")
        hidden = max(1, round(1024 * width)) if layout == "small" else 4096
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(self.shape_after(self.features)), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        for parameter in self.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            elif layout == "small":
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.normal_(parameter, std=0.01)

    @torch.no_grad()
    def renormalize_filters(self) -> None:
        """Scales each filter of a convolution whose root mean square exceeds `filter_rms` down to it."""
        if self.filter_rms is None:
            return
        for module in self.features:
            if isinstance(module, nn.Conv2d):  # a filter of n weights has the norm sqrt(n) times its rms
                module.weight.renorm_(p=2, dim=0, maxnorm=self.filter_rms * math.sqrt(module.weight[0].numel()))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.renormalize_filters()

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def small_features(in_channels: int, width: float, coarse_stem: bool) -> nn.Sequential:
    """The paper's layers with half the channels, for 28x28 images."""
    c48, c128, c192 = (max(1, round(channels * width)) for channels in (48, 128, 192))
    kernel_size, stride, next_stride = (7, 2, 1) if coarse_stem else (5, 1, 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, c48, kernel_size, stride, padding=kernel_size // 2),  # (N, 48, 28, 28), coarse 14x14
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 48, 14, 14), coarse 7x7
        ResponseNorm(c48),
        nn.Conv2d(c48, c128, 5, next_stride, padding=2),  # (N, 128, 7, 7)
        nn.ReLU(),
        ResponseNorm(c128),
        nn.Conv2d(c128, c192, 3, padding=1),  # (N, 192, 7, 7)
        nn.ReLU(),
        nn.Conv2d(c192, c192, 3, padding=1),  # (N, 192, 7, 7)
        nn.ReLU(),
        nn.Conv2d(c192, c128, 3, padding=1),  # (N, 128, 7, 7)
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # (N, 128, 3, 3)
    )


def large_features(in_channels: int) -> nn.Sequential:
    """Figure 3: AlexNet's five convolutions on one GPU, the first two finer."""
    return nn.Sequential(
        RawPixelConv2d(in_channels, 96, 7, stride=2, padding=1),  # (N, 96, 110, 110)
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 96, 55, 55)
        ResponseNorm(96),
        nn.Conv2d(96, 256, 5, stride=2),  # (N, 256, 26, 26)
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 256, 13, 13)
        ResponseNorm(256),
        nn.Conv2d(256, 384, 3, padding=1),  # (N, 384, 13, 13)
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1),  # (N, 384, 13, 13)
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),  # (N, 256, 13, 13)
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
    )
