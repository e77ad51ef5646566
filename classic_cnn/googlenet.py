"""GoogLeNet: C. Szegedy et al., "Going Deeper with Convolutions", 2014."""

from typing import Unpack

import torch
from torch import Tensor, nn

from classic_cnn.alexnet import ResponseNorm
from classic_cnn.classifier import ImageClassifier, Recipe

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


def convolution(
    in_channels: int, out_channels: int, kernel_size: int, batch_norm: bool, stride: int = 1
) -> tuple[nn.Module, ...]:
    """A convolution that keeps the size but for its stride, and its ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=not batch_norm)
    return (conv, nn.BatchNorm2d(out_channels), nn.ReLU()) if batch_norm else (conv, nn.ReLU())


class Inception(nn.Module):
    """1x1, 3x3 and 5x5 convolutions and a pooling side by side, with 1x1 convolutions that keep them cheap (Figure 2b).

    `maps` are a row of Table 1: its columns as `INCEPTIONS` lists them.
    """

    def __init__(self, in_channels: int, maps: tuple[int, ...], batch_norm: bool) -> None:
        super().__init__()
        ones, reduced_3, threes, reduced_5, fives, pooled = maps
        self.branch1 = nn.Sequential(*convolution(in_channels, ones, 1, batch_norm))
        self.branch2 = nn.Sequential(
            *convolution(in_channels, reduced_3, 1, batch_norm), *convolution(reduced_3, threes, 3, batch_norm)
        )
        self.branch3 = nn.Sequential(
            *convolution(in_channels, reduced_5, 1, batch_norm), *convolution(reduced_5, fives, 5, batch_norm)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), *convolution(in_channels, pooled, 1, batch_norm)
        )
        self.out_channels = ones + threes + fives + pooled

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([self.branch1(maps), self.branch2(maps), self.branch3(maps), self.branch4(maps)], dim=1)


class GoogLeNet(ImageClassifier):
    """GoogLeNet for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form. Differs from the paper: 3/8 of all maps (width 0.375), batch normalization instead
    of local response normalization, a 3x3 stem with stride 1 and one pooling, He's initialization.

    Args:
        width: factor of the maps of all layers. None is 1 as published and 0.375 in the native form.
        auxiliary: the two classifiers behind the modules 4a and 4d (section 5): each adds 0.3 times its loss to
            train/loss and is left out of `forward`.
        as_published: the paper's net, (N, 3, 224, 224) -> (N, 1000) when `in_channels` is 3 and `num_classes` 1000;
            without the auxiliary classifiers 6,998,552 parameters, 5,977,530 for gray images and 10 classes. Differs
            from the paper: He's initialization, for it names none; local response normalization with AlexNet's
            constants. (torchvision has 3x3 instead of 5x5 convolutions and batch normalization.)
        in_channels: 1 for gray images, 3 for colour.
        num_classes: number of scores an image.
        dropout: probability to drop one of the averages that the last layer reads (Table 1).
        batch_norm: batch normalization before each ReLU of the convolutions. None is yes in the native form and no as
            published.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: `width` is not positive.

    >>> net = GoogLeNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 1206366)
    """

    def __init__(
        self,
        width: float | None = None,
        auxiliary: bool = True,
        as_published: bool = False,
        in_channels: int = 1,
        num_classes: int = 10,
        dropout: float = 0.4,
        batch_norm: bool | None = None,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(**recipe)
        if width is None:
            width = 1.0 if as_published else 0.375
        if width <= 0:
            raise ValueError(f"model.width={width}: a number above 0 is needed (null for the default)")
        batch_norm = not as_published if batch_norm is None else batch_norm
        self.image_size = 224 if as_published else 28

        def thin(maps: int) -> int:
            return max(1, round(maps * width))

        channels = thin(192)
        modules: dict[str, Inception] = {}
        for name, maps in INCEPTIONS.items():
            modules[name] = Inception(channels, tuple(map(thin, maps)), batch_norm)
            channels = modules[name].out_channels
        stem = published_stem if as_published else native_stem
        self.features = nn.Sequential(  # in three parts, where the auxiliary classifiers look in
            nn.Sequential(
                stem(in_channels, thin(64), thin(192), batch_norm),  # (N, 192, 28, 28), native (N, 72, 14, 14)
                *(modules["3a"], modules["3b"]),  # (N, 480, 28, 28)
                *(nn.MaxPool2d(3, stride=2, ceil_mode=True), modules["4a"]),  # (N, 512, 14, 14)
            ),
            nn.Sequential(modules["4b"], modules["4c"], modules["4d"]),  # (N, 528, 14, 14)
            nn.Sequential(
                modules["4e"],  # (N, 832, 14, 14)
                nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 832, 7, 7)
                *(modules["5a"], modules["5b"]),  # (N, 1024, 7, 7), native (N, 384, 3, 3)
            ),
        )
        self.classifier = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)),
            nn.Linear(channels, num_classes),
        )
        self.auxiliary = nn.ModuleList()
        if auxiliary:
            window, stride, side = (5, 3, 4) if as_published else (3, 2, 3)
            for name in ("4a", "4d"):
                classifier = nn.Sequential(
                    nn.AvgPool2d(window, stride),  # (N, 512, 4, 4), (N, 528, 4, 4)
                    *convolution(modules[name].out_channels, thin(128), 1, batch_norm),  # (N, 128, 4, 4)
                    *(nn.Flatten(), nn.Linear(thin(128) * side * side, thin(1024)), nn.ReLU(), nn.Dropout(0.7)),
                    nn.Linear(thin(1024), num_classes),
                )
                self.auxiliary.append(classifier)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def training_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss with 0.3 times that of each auxiliary classifier (section 5), and the logits."""
        if not self.auxiliary:
            return super().training_loss(images, labels)
        at_4a = self.features[0](images)
        at_4d = self.features[1](at_4a)
        logits = self.classifier(self.features[2](at_4d))
        pairs = zip(self.auxiliary, (at_4a, at_4d), strict=True)
        losses = torch.stack([self.loss(classifier(maps), labels) for classifier, maps in pairs])
        self.auxiliary_losses = losses.detach()
        return self.loss(logits, labels) + 0.3 * losses.sum(), logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.auxiliary and self.ends_logged_step():
            first, second = self.auxiliary_losses
            self.log_dict({"train/auxiliary_1_loss": first, "train/auxiliary_2_loss": second})  # of this batch
        return loss

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def published_stem(in_channels: int, narrow: int, wide: int, batch_norm: bool) -> nn.Sequential:
    """Table 1 down to the first Inception module: an eighth of the side."""
    return nn.Sequential(
        *convolution(in_channels, narrow, 7, batch_norm, stride=2),  # (N, 64, 112, 112)
        *(nn.MaxPool2d(3, stride=2, ceil_mode=True), ResponseNorm(narrow)),  # (N, 64, 56, 56)
        *convolution(narrow, narrow, 1, batch_norm),  # (N, 64, 56, 56)
        *(*convolution(narrow, wide, 3, batch_norm), ResponseNorm(wide)),  # (N, 192, 56, 56)
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 192, 28, 28)
    )


def native_stem(in_channels: int, narrow: int, wide: int, batch_norm: bool) -> nn.Sequential:
    """Half the side."""
    return nn.Sequential(
        *convolution(in_channels, narrow, 3, batch_norm),  # (N, 24, 28, 28)
        nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (N, 24, 14, 14)
        *convolution(narrow, narrow, 1, batch_norm),  # (N, 24, 14, 14)
        *convolution(narrow, wide, 3, batch_norm),  # (N, 72, 14, 14)
    )
