"""VGG: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014."""

import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Unpack

from pydantic import Field
from torch import Tensor, nn

from classic_cnn.classifier import ImageClassifier, Recipe, layer_name
from datamodules.contract import Count, Positive, Share

CHANNELS = (64, 128, 256, 512, 512)  # of the five stages
# Table 1: convolutions of each stage in configurations A, B, D (C with 1x1 at the ends of its last stages) and E.
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def stage(
    number: int, in_channels: int, out_channels: int, kernel_sizes: Sequence[int], batch_norm: bool
) -> dict[str, nn.Module]:
    """Convolutions that keep the size, each with its ReLU; conv3_1 is the first one of the third stage."""
    layers: dict[str, nn.Module] = {}
    for index, kernel_size in enumerate(kernel_sizes, start=1):
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=not batch_norm)
        layers[f"conv{number}_{index}"] = conv
        if batch_norm:
            layers[f"bn{number}_{index}"] = nn.BatchNorm2d(out_channels)
        layers[f"relu{number}_{index}"] = nn.ReLU()
        in_channels = out_channels
    return layers


def convolution_numbers(parameter_names: Iterable[str]) -> list[str]:
    """Stage and index of each convolution that has weights among the parameters.

    >>> convolution_numbers(["features.conv1_1.weight", "features.bn1_1.weight", "features.conv2_1.weight"])
    ['1_1', '2_1']
    """
    return re.findall(r"conv(\d_\d)\.weight", " ".join(parameter_names))


class VGG(ImageClassifier):
    """VGG for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form of the net with 16 layers. Deviations from the paper: half the channels (width 0.5),
    batch normalization, no pooling after the last two stages, 512 units in the hidden layers, He's initialization.

    `VGG.published()` is the paper's net, (N, 3, 224, 224) -> (N, 1000), by its depth and `one_by_one` with 132,863,336
    (A), 133,047,848 (B), 133,638,952 (C), 138,357,544 (D) or 143,667,240 (E) parameters. Deviation from the paper:
    pixels in [-1, 1], not from 0 to 255 less the mean colour (section 2.1). Of its two ways to initialize the deeper
    nets it is the one that needs no pre-trained net, Glorot's (section 3.1). The other one is `warm_start` from a
    shallower net.

    Args:
        depth: layers with weights: configurations A, B, D and E of Table 1.
        width: factor of the channels of all convolutions and of the hidden units.
        one_by_one: with 16 layers, the last convolution of the stages 3, 4 and 5 is 1x1 (configuration C).
        five_by_five: with 13 layers, each pair of 3x3 convolutions is one 5x5 (section 4.1).
        batch_norm: batch normalization before each ReLU of the convolutions.
        pooled_stages: the first stages that end with a pooling, 5 in the paper.
        hidden_units: of the two large layers where the width is 1; 4096 in the paper.
        dropout: probability to drop a hidden unit of the two large layers (section 3.1).
        initialization: of the weights, He's or Glorot's.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the images are too small, or `one_by_one` or `five_by_five` is combined with another depth.

    >>> import torch
    >>> net = VGG()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 5129642)
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        "width": 1.0,
        "batch_norm": False,
        "pooled_stages": 5,
        "hidden_units": 4096,
        "initialization": "glorot",
        "in_channels": 3,
        "num_classes": 1000,
        "image_size": 224,
    }

    def __init__(
        self,
        depth: Literal[11, 13, 16, 19] = 16,
        width: Positive = 0.5,
        one_by_one: bool = False,
        five_by_five: bool = False,
        batch_norm: bool = True,
        pooled_stages: Annotated[int, Field(ge=0, le=5)] = 3,
        hidden_units: Count = 1024,
        dropout: Share = 0.5,
        initialization: Literal["he", "glorot"] = "he",
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        if one_by_one and depth != 16:
            raise ValueError(f"one_by_one is a variant of depth 16 only, got depth {depth}")
        if five_by_five and depth != 13:
            raise ValueError(f"five_by_five is a variant of depth 13 only, got depth {depth}")
        layers: dict[str, nn.Module] = {}
        channels = in_channels
        for number, (full_channels, convolutions) in enumerate(zip(CHANNELS, CONVOLUTIONS[depth], strict=True), 1):
            kernel_sizes = [5] if five_by_five else [3] * convolutions
            if one_by_one and number >= 3:
                kernel_sizes[-1] = 1
            out_channels = max(1, round(full_channels * width))
            layers |= stage(number, channels, out_channels, kernel_sizes, batch_norm)
            if number <= pooled_stages:
                layers[f"pool{number}"] = nn.MaxPool2d(2)
            channels = out_channels
        self.features = nn.Sequential(OrderedDict(layers))  # (N, 256, 3, 3), published (N, 512, 7, 7)
        hidden = max(1, round(hidden_units * width))
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
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                if initialization == "he":
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def warm_start(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Copies the layers that fit, from another depth only the first four convolutions and the large layers.

        That is how section 3.1 starts the deeper nets. Layers correspond by their names: conv3_1 is conv3_1 in all.
        """
        numbers = convolution_numbers(weights)
        if numbers != convolution_numbers(self.state_dict()):
            first = tuple(numbers[:4])
            weights = {k: v for k, v in weights.items() if k.startswith("classifier.") or layer_name(k).endswith(first)}
        return super().warm_start(weights)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
