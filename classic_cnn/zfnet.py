"""ZFNet: M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", 2013."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from classic_cnn.alexnet import ResponseNorm
from classic_cnn.classifier import ImageClassifier, Recipe


class ZFNet(ImageClassifier):
    """ZFNet for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form. Differs from the paper: half the maps, a 5x5 stem with stride 1, no pooling after
    the second convolution, 1024 units in the hidden layers, He's initialization.

    Args:
        as_published: the paper's net (Figure 3), (N, 3, 224, 224) -> (N, 1000) with 62,357,608 parameters when
            `in_channels` is 3 and `num_classes` 1000; weights from N(0, 0.01), biases 0. Differs from the paper: its
            contrast normalization, of which it gives no constants, is AlexNet's.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: number of scores an image.
        dropout: probability to drop a hidden unit of the two large layers (section 3).
        filter_rms: after each step a filter of a convolution whose root mean square is larger is scaled down to it
            (section 3); None leaves the filters alone.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: `filter_rms` is not positive.

    >>> net = ZFNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 3170154)
    """

    def __init__(
        self,
        as_published: bool = False,
        in_channels: int = 1,
        num_classes: int = 10,
        dropout: float = 0.5,
        filter_rms: float | None = 0.1,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(**recipe)
        if filter_rms is not None and filter_rms <= 0:
            raise ValueError(f"model.filter_rms={filter_rms}: a number above 0 is needed (null for no bound)")
        self.filter_rms = filter_rms
        self.image_size = 224 if as_published else 28
        self.features = published_features(in_channels) if as_published else native_features(in_channels)
        inputs, hidden = (256 * 6 * 6, 4096) if as_published else (128 * 3 * 3, 1024)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(hidden, num_classes),
        )
        for parameter in self.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            elif as_published:
                nn.init.normal_(parameter, std=0.01)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")

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


def published_features(in_channels: int) -> nn.Sequential:
    """Figure 3: AlexNet's five convolutions on one GPU, the first two finer."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 96, 7, stride=2, padding=1), nn.ReLU()),  # (N, 96, 110, 110)
        *(nn.MaxPool2d(3, stride=2, ceil_mode=True), ResponseNorm(96)),  # (N, 96, 55, 55)
        *(nn.Conv2d(96, 256, 5, stride=2), nn.ReLU()),  # (N, 256, 26, 26)
        *(nn.MaxPool2d(3, stride=2, ceil_mode=True), ResponseNorm(256)),  # (N, 256, 13, 13)
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),  # (N, 384, 13, 13)
        *(nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),  # (N, 384, 13, 13)
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),  # (N, 256, 13, 13)
        nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
    )


def native_features(in_channels: int) -> nn.Sequential:
    """The same with half the maps, for 28x28 images."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 48, 5, padding=2), nn.ReLU()),  # (N, 48, 28, 28)
        *(nn.MaxPool2d(3, stride=2, ceil_mode=True), ResponseNorm(48)),  # (N, 48, 14, 14)
        *(nn.Conv2d(48, 128, 5, stride=2, padding=2), nn.ReLU(), ResponseNorm(128)),  # (N, 128, 7, 7)
        *(nn.Conv2d(128, 192, 3, padding=1), nn.ReLU()),  # (N, 192, 7, 7)
        *(nn.Conv2d(192, 192, 3, padding=1), nn.ReLU()),  # (N, 192, 7, 7)
        *(nn.Conv2d(192, 128, 3, padding=1), nn.ReLU()),  # (N, 128, 7, 7)
        nn.MaxPool2d(3, stride=2),  # (N, 128, 3, 3)
    )
