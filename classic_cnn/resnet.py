"""ResNet: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from classic_cnn.classifier import ImageClassifier, Recipe
from datamodules.contract import Count, Positive


class ZeroPadding(nn.Module):
    """Shortcut A (section 3.3): every `stride`-th pixel, and zeros for the new channels; no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        return F.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Shortcut B (section 3.3): a 1x1 convolution where the shape changes."""
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size but for its stride; the bias is that of the batch normalization behind it."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


def add_shortcut(residual: Tensor, images: Tensor, shortcut: nn.Module | None) -> Tensor:
    """F(x) + x; F(x) alone in a plain net."""
    return residual if shortcut is None else residual + shortcut(images)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (Figure 5, left)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv(in_channels, channels, 3, stride),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv(channels, channels, 3),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = shortcut
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.relu(add_shortcut(self.residual(images), images, self.shortcut))


class Bottleneck(nn.Module):
    """A 1x1 convolution that reduces, a 3x3, a 1x1 that restores, and a shortcut (Figure 5, right)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.residual = nn.Sequential(
            conv(in_channels, channels, 1, stride),  # torchvision has the stride in the 3x3
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv(channels, channels, 3),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv(channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = shortcut
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.relu(add_shortcut(self.residual(images), images, self.shortcut))


def small_stem(in_channels: int, channels: int) -> nn.Sequential:
    """The 3x3 convolution of section 4.2."""
    return nn.Sequential(conv(in_channels, channels, 3), nn.BatchNorm2d(channels), nn.ReLU())


def large_stem(in_channels: int, channels: int) -> nn.Sequential:
    """Table 1's conv1 and pooling, which reduce the side to a quarter."""
    return nn.Sequential(
        conv(in_channels, channels, 7, stride=2),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def stage(
    block: type[BasicBlock | Bottleneck],
    blocks: int,
    in_channels: int,
    channels: int,
    stride: int,
    project: bool,
    shortcuts: bool,
) -> nn.Sequential:
    """Blocks in a row at one size; the first one applies the stride and changes the number of channels."""
    out_channels = channels * block.expansion
    shortcut: nn.Module | None
    if not shortcuts:
        shortcut = None
    elif stride == 1 and in_channels == out_channels:
        shortcut = nn.Identity()
    elif project:
        shortcut = projection(in_channels, out_channels, stride)
    else:
        shortcut = ZeroPadding(in_channels, out_channels, stride)
    later = [block(out_channels, channels, 1, nn.Identity() if shortcuts else None) for _ in range(blocks - 1)]
    return nn.Sequential(block(in_channels, channels, stride, shortcut), *later)


Stages = tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]  # the kind of block, and their number in each stage
# Section 4.2: 6n + 2 layers for CIFAR-10. Table 1: the nets for ImageNet.
CIFAR: dict[int, Stages] = {6 * n + 2: (BasicBlock, (n, n, n)) for n in (3, 5, 7, 9, 18, 200)}
IMAGENET: dict[int, Stages] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(ImageClassifier):
    """ResNet for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the paper's net for CIFAR-10 with 20 layers. Deviations from the paper: 28x28 images and so feature
    maps of 28, 14 and 7 instead of 32, 16 and 8 pixels; a depth of Table 1 has a 3x3 stem with stride 1 and no pooling.

    `ResNet.published()` is the paper's net: for a depth of CIFAR-10, (N, 3, 32, 32) -> (N, 10); for a depth of Table 1,
    (N, 3, 224, 224) -> (N, 1000) with a 7x7 stem and pooling: 11,689,512 parameters for 18 layers, 25,557,032 for 50.
    Deviation from the paper: section 4.1 compares 18 and 34 layers whose shortcuts have no parameters (A), then 34
    layers with projections (B); here all depths of Table 1 have projections, as torchvision's, which are 173,824
    parameters of 18 layers. A bottleneck's stride is in its first 1x1, as in the authors' nets; torchvision puts it in
    the 3x3 and says so.

    Args:
        depth: 20, 32, 44, 56, 110 or 1202: the nets for CIFAR-10, three stages with parameter-free shortcuts (A).
            18, 34, 50, 101 or 152: those for ImageNet, four stages with projections where the shape changes (B).
        width: factor of the channels of all stages, where the first has 16 for CIFAR-10 and 64 for ImageNet; above 1 it
            is a wide residual network.
        layout: `small`, with a stem for images of about 28 pixels, or `large`, Table 1's for about 224.
        shortcuts: False makes it the plain net that the paper compares with (section 4.1).
        bottleneck: with 20, 56 or 110 layers, blocks of three convolutions (Figure 5, right), fewer of them; the nets
            for ImageNet have their own.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the images are too small, or `bottleneck` is combined with another depth.

    >>> import torch
    >>> net = ResNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 269434)
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {"in_channels": 3, "image_size": 32}
    PUBLISHED_IMAGENET: ClassVar[Mapping[str, Any]] = {
        "layout": "large",
        "in_channels": 3,
        "num_classes": 1000,
        "image_size": 224,
    }

    def __init__(
        self,
        depth: Literal[18, 20, 32, 34, 44, 50, 56, 101, 110, 152, 1202] = 20,
        width: Positive = 1.0,
        layout: Literal["small", "large"] = "small",
        shortcuts: bool = True,
        bottleneck: bool = False,
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        for_imagenet = depth in IMAGENET
        block, blocks_per_stage = IMAGENET[depth] if for_imagenet else CIFAR[depth]
        if bottleneck:  # 9n + 2 layers in place of 6n + 2
            if for_imagenet or (depth - 2) % 9:
                raise ValueError(f"bottleneck is a variant of the depths 20, 56 and 110 only, got depth {depth}")
            block, blocks_per_stage = Bottleneck, ((depth - 2) // 9,) * 3
        channels = max(1, round((64 if for_imagenet else 16) * width))
        stage_inputs = channels
        stem = small_stem if layout == "small" else large_stem
        layers = [stem(in_channels, channels)]  # (N, 16, 28, 28)
        for index, blocks in enumerate(blocks_per_stage):  # (N, 16, 28, 28), (N, 32, 14, 14), (N, 64, 7, 7)
            stride = 1 if index == 0 else 2
            layers.append(stage(block, blocks, stage_inputs, channels, stride, for_imagenet, shortcuts))
            stage_inputs, channels = channels * block.expansion, channels * 2
        self.features = nn.Sequential(*layers)
        self.shape_after(self.features)  # refuses images that are too small
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(stage_inputs, num_classes))
        for module in self.modules():  # section 3.4: as in He et al., "Delving Deep into Rectifiers"
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def published(cls, depth: int = 20, **arguments: Any) -> Self:
        """The net of the paper with that depth, for CIFAR-10 or for ImageNet."""
        preset = cls.PUBLISHED_IMAGENET if depth in IMAGENET else cls.PUBLISHED
        return cls(**{**preset, "depth": depth, **arguments})

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
