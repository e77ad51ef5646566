"""Five forms of a 5x5 layer in the middle of a small net, by which papers made it cheaper; the net is our own."""

from typing import Literal, Unpack

from torch import Tensor, nn

from classic_cnn.classifier import ImageClassifier, Recipe
from datamodules.contract import Count, Positive

Form = Literal["standard", "stacked", "separable", "reduced", "pooled"]


def conv(in_channels: int, out_channels: int, kernel_size: int) -> list[nn.Module]:
    """A convolution that keeps the size, batch normalization and ReLU."""
    padding = kernel_size // 2
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=False)
    return [layer, nn.BatchNorm2d(out_channels), nn.ReLU()]


def middle(channels: int, form: Form) -> list[nn.Module]:
    """The layer, which keeps the number of channels, and a pooling that halves the side."""
    pool = nn.MaxPool2d(2)
    if form == "stacked":  # VGG, section 2.3
        return [*conv(channels, channels, 3), *conv(channels, channels, 3), pool]
    if form == "separable":  # Xception
        depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False)
        return [depthwise, *conv(channels, channels, 1), pool]
    if form == "reduced":  # GoogLeNet, section 4
        return [*conv(channels, max(1, channels // 4), 1), *conv(max(1, channels // 4), channels, 5), pool]
    if form == "pooled":
        return [pool, *conv(channels, channels, 5)]
    return [*conv(channels, channels, 5), pool]


class MiddleLayerNet(ImageClassifier):
    """Three convolutions, (N, 1, 28, 28) in [-1, 1] -> (N, 10), of which the second has one of five forms.

    Args:
        width: factor of the channels, 64 in the middle.
        form: `standard`, a 5x5 convolution; `stacked`, two 3x3; `separable`, a 5x5 filter per channel and a 1x1
            convolution; `reduced`, a 1x1 convolution to a quarter of the channels before the 5x5; `pooled`, the pooling
            before the 5x5 and not after it.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the images are too small.

    >>> import torch
    >>> for form in ("standard", "stacked", "separable", "reduced", "pooled"):
    ...     net = MiddleLayerNet(form=form)
    ...     net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.features[4:-4].parameters())
    (torch.Size([2, 10]), 102528)
    (torch.Size([2, 10]), 73984)
    (torch.Size([2, 10]), 5824)
    (torch.Size([2, 10]), 26784)
    (torch.Size([2, 10]), 102528)
    """

    def __init__(
        self,
        width: Positive = 1.0,
        form: Form = "standard",
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        channels = max(1, round(64 * width))
        self.features = nn.Sequential(
            *conv(in_channels, channels, 3),
            nn.MaxPool2d(2),  # (N, 64, 14, 14)
            *middle(channels, form),  # (N, 64, 7, 7)
            *conv(channels, 2 * channels, 3),  # (N, 128, 7, 7)
            nn.AdaptiveAvgPool2d(1),
        )
        self.shape_after(self.features)  # refuses images that are too small
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(2 * channels, num_classes))
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
