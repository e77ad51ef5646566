"""GoogLeNet: C. Szegedy et al., "Going Deeper with Convolutions", 2014."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from classic_cnn.alexnet import ResponseNorm
from classic_cnn.classifier import ImageClassifier, Recipe
from datamodules.contract import Count, Positive, Share

# Table 1, its columns #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5 and pool proj.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class ConvReLU(nn.Sequential):
    """A convolution that keeps the size but for its stride, optional batch normalization, and ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, batch_norm: bool, stride: int = 1
    ) -> None:
        padding = kernel_size // 2
        super().__init__()
        self.append(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=not batch_norm))
        if batch_norm:
            self.append(nn.BatchNorm2d(out_channels))
        self.append(nn.ReLU())


class Inception(nn.Module):
    """1x1, 3x3 and 5x5 convolutions and a pooling in parallel, with 1x1 convolutions that keep them cheap (Figure 2b).

    `channels` is a row of Table 1, in the order of the columns of `INCEPTIONS`. Without `reductions` the 3x3 and 5x5
    convolutions read the module's input.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], batch_norm: bool, reductions: bool = True) -> None:
        super().__init__()
        conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool_projection = channels
        self.branch1 = ConvReLU(in_channels, conv1x1, 1, batch_norm)
        self.branch2 = nn.Sequential(
            ConvReLU(in_channels, reduce3x3, 1, batch_norm) if reductions else nn.Identity(),
            ConvReLU(reduce3x3 if reductions else in_channels, conv3x3, 3, batch_norm),
        )
        self.branch3 = nn.Sequential(
            ConvReLU(in_channels, reduce5x5, 1, batch_norm) if reductions else nn.Identity(),
            ConvReLU(reduce5x5 if reductions else in_channels, conv5x5, 5, batch_norm),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            ConvReLU(in_channels, pool_projection, 1, batch_norm),
        )
        self.out_channels = conv1x1 + conv3x3 + conv5x5 + pool_projection

    def forward(self, images: Tensor) -> Tensor:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(images) for branch in branches], dim=1)


class GoogLeNet(ImageClassifier):
    """GoogLeNet for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form. Deviations from the paper: 3/8 of all channels (width 0.375), batch normalization
    instead of local response normalization, a 3x3 stem with stride 1 and one pooling, auxiliary classifiers behind a
    3x3 pooling with stride 2, He's initialization.

    `GoogLeNet.published()` is the paper's net, (N, 3, 224, 224) -> (N, 1000); without the auxiliary classifiers it has
    6,998,552 parameters, 5,977,530 for gray images and 10 classes. Deviations from the paper: He's initialization, for
    it names none; local response normalization with AlexNet's constants, which scale pixels in [-1, 1] by little more
    than a constant; no Polyak average of the weights (section 6). (torchvision has 3x3 instead of 5x5 convolutions and
    batch normalization.)

    Args:
        width: factor of the channels of all layers.
        auxiliary: the two classifiers behind the modules 4a and 4d (section 5): each adds 0.3 times its loss to
            train/loss and is left out of `forward`.
        reductions: the 1x1 convolutions before the 3x3 and 5x5 ones (section 4).
        layout: `small`, with a stem for images of about 28 pixels, or `large`, the paper's for about 224.
        batch_norm: batch normalization before each ReLU of the convolutions.
        dropout: probability to drop one of the averages that the last layer reads (Table 1).
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the images are too small.

    >>> net = GoogLeNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 1206366)
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        "width": 1.0,
        "layout": "large",
        "batch_norm": False,
        "in_channels": 3,
        "num_classes": 1000,
        "image_size": 224,
    }

    def __init__(
        self,
        width: Positive = 0.375,
        auxiliary: bool = True,
        reductions: bool = True,
        layout: Literal["small", "large"] = "small",
        batch_norm: bool = True,
        dropout: Share = 0.4,
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)

        def scaled(channels: int) -> int:
            return max(1, round(channels * width))

        channels = scaled(192)
        modules: dict[str, Inception] = {}
        for name, table_row in INCEPTIONS.items():
            modules[name] = Inception(channels, tuple(map(scaled, table_row)), batch_norm, reductions)
            channels = modules[name].out_channels
        stem = small_stem if layout == "small" else large_stem
        self.features = nn.Sequential(  # in three parts, where the auxiliary classifiers branch off
            nn.Sequential(
                stem(in_channels, scaled(64), scaled(192), batch_norm),  # (N, 72, 14, 14), published (N, 192, 28, 28)
                modules["3a"],
                modules["3b"],  # (N, 180, 14, 14), published (N, 480, 28, 28)
                nn.MaxPool2d(3, stride=2, ceil_mode=True),
                modules["4a"],  # (N, 192, 7, 7), published (N, 512, 14, 14)
            ),
            nn.Sequential(
                modules["4b"],
                modules["4c"],
                modules["4d"],  # (N, 198, 7, 7), published (N, 528, 14, 14)
            ),
            nn.Sequential(
                modules["4e"],  # (N, 312, 7, 7), published (N, 832, 14, 14)
                nn.MaxPool2d(3, stride=2, ceil_mode=True),
                modules["5a"],
                modules["5b"],  # (N, 384, 3, 3), published (N, 1024, 7, 7)
            ),
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(channels, num_classes),
        )
        self.auxiliary = nn.ModuleList()
        for part in (1, 2) if auxiliary else ():
            in_maps = modules["4a" if part == 1 else "4d"].out_channels
            reduction = nn.Sequential(
                nn.AvgPool2d(3, stride=2) if layout == "small" else nn.AvgPool2d(5, stride=3),
                ConvReLU(in_maps, scaled(128), 1, batch_norm),
                nn.Flatten(),  # (N, 432), published (N, 2048)
            )
            (num_features,) = self.shape_after(self.features[:part], reduction)
            self.auxiliary.append(
                nn.Sequential(
                    reduction,
                    nn.Linear(num_features, scaled(1024)),
                    nn.ReLU(),
                    nn.Dropout(0.7),
                    nn.Linear(scaled(1024), num_classes),
                )
            )
        self.shape_after(self.features)  # refuses images that are too small
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def training_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss with 0.3 times that of each auxiliary classifier (section 5), and the logits."""
        if not self.auxiliary:
            return super().training_loss(images, labels)
        after_4a = self.features[0](images)
        after_4d = self.features[1](after_4a)
        logits = self.classifier(self.features[2](after_4d))
        pairs = zip(self.auxiliary, (after_4a, after_4d), strict=True)
        losses = torch.stack([self.loss(classifier(features), labels) for classifier, features in pairs])
        self.auxiliary_losses = losses.detach()
        return self.loss(logits, labels) + 0.3 * losses.sum(), logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.auxiliary and self.is_logging_step(batch_idx):
            first, second = self.auxiliary_losses
            self.log_dict({"train/auxiliary_1_loss": first, "train/auxiliary_2_loss": second})  # of this batch
        return loss

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def small_stem(in_channels: int, narrow: int, wide: int, batch_norm: bool) -> nn.Sequential:
    """Halves the side."""
    return nn.Sequential(
        ConvReLU(in_channels, narrow, 3, batch_norm),  # (N, 24, 28, 28)
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 24, 14, 14)
        ConvReLU(narrow, narrow, 1, batch_norm),  # (N, 24, 14, 14)
        ConvReLU(narrow, wide, 3, batch_norm),  # (N, 72, 14, 14)
    )


def large_stem(in_channels: int, narrow: int, wide: int, batch_norm: bool) -> nn.Sequential:
    """Table 1 up to the first Inception module: reduces the side to an eighth."""
    return nn.Sequential(
        ConvReLU(in_channels, narrow, 7, batch_norm, stride=2),  # (N, 64, 112, 112)
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 64, 56, 56)
        ResponseNorm(narrow),
        ConvReLU(narrow, narrow, 1, batch_norm),  # (N, 64, 56, 56)
        ConvReLU(narrow, wide, 3, batch_norm),  # (N, 192, 56, 56)
        ResponseNorm(wide),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 192, 28, 28)
    )
