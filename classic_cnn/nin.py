"""NiN: M. Lin, Q. Chen, S. Yan, "Network In Network", 2013."""

from typing import Unpack

from torch import Tensor, nn

from classic_cnn.classifier import ImageClassifier, Recipe


def mlpconv(in_channels: int, maps: tuple[int, ...], kernel_size: int, batch_norm: bool) -> list[nn.Module]:
    """A convolution and then 1x1 convolutions: a small perceptron that slides over the maps (section 3.1)."""
    layers: list[nn.Module] = []
    for channels in maps:
        layers.append(nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, bias=not batch_norm))
        layers += [nn.BatchNorm2d(channels), nn.ReLU()] if batch_norm else [nn.ReLU()]
        in_channels, kernel_size = channels, 1
    return layers


class NiN(ImageClassifier):
    """Network in Network for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form, with the maps of the authors' net for MNIST. Differs from the paper: batch
    normalization, no ReLU after the last convolution (it can silence a class for good), He's initialization.

    Args:
        as_published: the paper's net for CIFAR-10, from the authors' configuration, for the paper prints no widths:
            (N, 3, 32, 32) -> (N, 10) with 966,986 parameters when `in_channels` is 3, 957,386 when it is 1; weights
            from N(0, 0.05). Differs from the paper: none.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: number of scores an image.
        dropout: probability to drop an activation between two mlpconv layers (section 4). None is 0.5 as published
            and 0.2 in the native form, which batch normalization regularizes too.
        batch_norm: batch normalization before each ReLU. None is yes in the native form and no as published.
        recipe: see `ImageClassifier`.

    >>> import torch
    >>> net = NiN()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 350378)
    """

    def __init__(
        self,
        as_published: bool = False,
        in_channels: int = 1,
        num_classes: int = 10,
        dropout: float | None = None,
        batch_norm: bool | None = None,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(**recipe)
        if dropout is None:
            dropout = 0.5 if as_published else 0.2
        batch_norm = not as_published if batch_norm is None else batch_norm
        if as_published:
            self.image_size = 32
            self.features = nn.Sequential(
                *mlpconv(in_channels, (192, 160, 96), 5, batch_norm),  # (N, 96, 32, 32)
                *(nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.Dropout(dropout)),  # (N, 96, 16, 16)
                *mlpconv(96, (192, 192, 192), 5, batch_norm),  # (N, 192, 16, 16)
                *(nn.AvgPool2d(3, stride=2, ceil_mode=True), nn.Dropout(dropout)),  # (N, 192, 8, 8)
                *mlpconv(192, (192, 192), 3, batch_norm),  # (N, 192, 8, 8)
                *(nn.Conv2d(192, num_classes, 1), nn.ReLU()),  # one map a class (N, 10, 8, 8)
            )
        else:
            self.features = nn.Sequential(
                *mlpconv(in_channels, (96, 64, 48), 5, batch_norm),  # (N, 48, 28, 28)
                *(nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.Dropout(dropout)),  # (N, 48, 14, 14)
                *mlpconv(48, (128, 96, 48), 5, batch_norm),  # (N, 48, 14, 14)
                *(nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.Dropout(dropout)),  # (N, 48, 7, 7)
                *mlpconv(48, (128, 96), 5, batch_norm),  # (N, 96, 7, 7)
                nn.Conv2d(96, num_classes, 1),  # one map a class (N, 10, 7, 7)
            )
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # global average pooling (section 3.2)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                if as_published:
                    nn.init.normal_(module.weight, std=0.05)
                else:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
