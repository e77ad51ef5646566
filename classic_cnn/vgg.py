"""VGG: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014."""

import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import Unpack

from torch import Tensor, nn

from classic_cnn.classifier import ImageClassifier, Recipe, layer_of

MAPS = (64, 128, 256, 512, 512)  # of the five stages
# Table 1: convolutions of each stage in configurations A, B, D (C with 1x1 at the ends of its last stages) and E.
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def stage(
    number: int, in_channels: int, channels: int, kernel_sizes: list[int], batch_norm: bool
) -> dict[str, nn.Module]:
    """Convolutions that keep the size, each with its ReLU; conv3_1 is the first one of the third stage."""
    layers: dict[str, nn.Module] = {}
    for index, kernel_size in enumerate(kernel_sizes, start=1):
        conv = nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, bias=not batch_norm)
        layers[f"conv{number}_{index}"] = conv
        if batch_norm:
            layers[f"bn{number}_{index}"] = nn.BatchNorm2d(channels)
        layers[f"relu{number}_{index}"] = nn.ReLU()
        in_channels = channels
    return layers


def convolution_places(names: Iterable[str]) -> list[str]:
    """
    >>> convolution_places(["features.conv1_1.weight", "features.bn1_1.weight", "features.conv2_1.weight"])
    ['1_1', '2_1']
    """
    return re.findall(r"conv(\d_\d)\.weight", " ".join(names))


class VGG(ImageClassifier):
    """VGG for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form of the net with 16 layers. Differs from the paper: half the maps (width 0.5), batch
    normalization, no pooling after the last two stages, 512 units in the hidden layers, He's initialization.

    Args:
        depth: layers with weights: 11, 13, 16 or 19 (configurations A, B, D and E of Table 1).
        width: factor of the maps of all convolutions, 64 to 512 where it is 1, and in the native form of the hidden
            units, then 1024. None is 1 as published and 0.5 in the native form.
        one_by_one: with 16 layers, the last convolution of the stages 3, 4 and 5 is 1x1 (configuration C).
        as_published: the paper's net, (N, 3, 224, 224) -> (N, 1000) when `in_channels` is 3 and `num_classes` 1000,
            with 132,863,336 (A), 133,047,848 (B), 133,638,952 (C), 138,357,544 (D) or 143,667,240 (E) parameters.
            Differs from the paper: none; of its two ways to initialize the deeper nets it is the one that needs no
            pre-trained net, Glorot's (section 3.1). The other one: `init_from` a shallower net.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: number of scores an image.
        dropout: probability to drop a hidden unit of the two large layers (section 3.1).
        batch_norm: batch normalization before each ReLU of the convolutions. None is yes in the native form and no as
            published.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: `depth` is none of the paper's, `width` is not positive, or `one_by_one` with another depth than 16.

    >>> import torch
    >>> net = VGG()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 5129642)
    """

    def __init__(
        self,
        depth: int = 16,
        width: float | None = None,
        one_by_one: bool = False,
        as_published: bool = False,
        in_channels: int = 1,
        num_classes: int = 10,
        dropout: float = 0.5,
        batch_norm: bool | None = None,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(**recipe)
        if depth not in CONVOLUTIONS:
            raise ValueError(f"model.depth={depth}: choose one of {', '.join(map(str, CONVOLUTIONS))}")
        if one_by_one and depth != 16:
            raise ValueError(f"model.one_by_one=true with model.depth={depth}: only 16 layers have this variant")
        if width is None:
            width = 1.0 if as_published else 0.5
        if width <= 0:
            raise ValueError(f"model.width={width}: a number above 0 is needed (null for the default)")
        batch_norm = not as_published if batch_norm is None else batch_norm
        self.image_size = 224 if as_published else 28
        layers: dict[str, nn.Module] = {}
        inputs = in_channels
        for number, (maps, convolutions) in enumerate(zip(MAPS, CONVOLUTIONS[depth], strict=True), start=1):
            kernel_sizes = [3] * convolutions
            if one_by_one and number >= 3:
                kernel_sizes[-1] = 1
            channels = max(1, round(maps * width))
            layers |= stage(number, inputs, channels, kernel_sizes, batch_norm)
            if as_published or number <= 3:  # (N, 512, 7, 7) after the last; native: (N, 128, 3, 3) after the third
                layers[f"pool{number}"] = nn.MaxPool2d(2)
            inputs = channels
        self.features = nn.Sequential(OrderedDict(layers))
        pixels, hidden = (7 * 7, 4096) if as_published else (3 * 3, max(1, round(1024 * width)))
        self.classifier = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(inputs * pixels, hidden), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(hidden, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                if as_published:
                    nn.init.xavier_uniform_(module.weight)
                else:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def warm_start(self, weights: dict[str, Tensor]) -> list[str]:
        """Takes over the layers that fit, from another depth the first four convolutions and the large layers alone.

        That is section 3.1, which starts the deeper nets so. A layer is known by its place: conv3_1 is conv3_1 in all.
        """
        places = convolution_places(weights)
        if places != convolution_places(self.state_dict()):
            first = tuple(places[:4])
            weights = {k: v for k, v in weights.items() if k.startswith("classifier.") or layer_of(k).endswith(first)}
        return super().warm_start(weights)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
