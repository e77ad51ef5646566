"""ResNet: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015."""

from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from classic_cnn.classifier import ImageClassifier, Recipe


class ZeroPadding(nn.Module):
    """Shortcut A (section 3.3): every `stride`-th pixel, and maps of zeros for the new channels; no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        return F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Shortcut B (section 3.3): a 1x1 convolution where the shape changes."""
    return nn.Sequential(*convolution(in_channels, out_channels, 1, stride))


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> tuple[nn.Conv2d, nn.Module]:
    """A convolution that keeps the size but for its stride, and its batch normalization."""
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False)
    return conv, nn.BatchNorm2d(out_channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (Figure 5, left)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *(*convolution(in_channels, channels, 3, stride), nn.ReLU()),
            *convolution(channels, channels, 3),
        )
        self.shortcut = shortcut
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(self.residual(maps) + self.shortcut(maps))


class Bottleneck(nn.Module):
    """A 1x1 convolution that reduces, a 3x3, and a 1x1 that restores, beside a shortcut (Figure 5, right)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *(*convolution(in_channels, channels, 1, stride), nn.ReLU()),  # torchvision has the stride on the 3x3
            *(*convolution(channels, channels, 3), nn.ReLU()),
            *convolution(channels, channels * self.expansion, 1),
        )
        self.shortcut = shortcut
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(self.residual(maps) + self.shortcut(maps))


def stem(in_channels: int, channels: int, large: bool) -> nn.Sequential:
    """Table 1's conv1 and pooling where it is large, a quarter of the side; else a 3x3 convolution (section 4.2)."""
    if large:
        return nn.Sequential(*convolution(in_channels, channels, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    return nn.Sequential(*convolution(in_channels, channels, 3), nn.ReLU())


def stage(
    block: type[BasicBlock | Bottleneck], blocks: int, in_channels: int, channels: int, stride: int, project: bool
) -> nn.Sequential:
    """Blocks in a row at one size; the first one applies the stride and changes the number of maps."""
    out_channels = channels * block.expansion
    if stride == 1 and in_channels == out_channels:
        shortcut: nn.Module = nn.Identity()
    elif project:
        shortcut = projection(in_channels, out_channels, stride)
    else:
        shortcut = ZeroPadding(in_channels, out_channels, stride)
    later = [block(out_channels, channels, 1, nn.Identity()) for _ in range(blocks - 1)]
    return nn.Sequential(block(in_channels, channels, stride, shortcut), *later)


Net = tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]  # the kind of block, the blocks of each stage
# Section 4.2: 6n + 2 layers for CIFAR-10. Table 1: the nets for ImageNet.
CIFAR: dict[int, Net] = {6 * n + 2: (BasicBlock, (n, n, n)) for n in (3, 5, 7, 9, 18, 200)}
IMAGENET: dict[int, Net] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(ImageClassifier):
    """ResNet for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the paper's net for CIFAR-10 with 20 layers. Differs from the paper: 28x28 images and so maps of
    28, 14 and 7 instead of 32, 16 and 8; a depth of Table 1 gets a 3x3 stem with stride 1 and no pooling.

    Args:
        depth: 20, 32, 44, 56, 110 or 1202: the nets for CIFAR-10, three stages with parameter-free shortcuts (A).
            18, 34, 50, 101 or 152: those for ImageNet, four stages with projections where the shape changes (B).
        width: maps of the first stage, doubled by each later one. None is the paper's: 16 for CIFAR-10, 64 for
            ImageNet. Wider than the paper's is a wide residual network.
        as_published: the paper's input, (N, 3, 224, 224) -> (N, 1000) for a depth of Table 1, and its 7x7 stem and
            pooling: 11,689,512 parameters for 18 layers, 25,557,032 for 50, as torchvision's; (N, 3, 32, 32) ->
            (N, 10) for CIFAR-10. Differs from the paper: none (a bottleneck's stride is on its first 1x1, as in the
            authors' nets; torchvision puts it on the 3x3 and says so).
        in_channels: 1 for gray images, 3 for colour.
        num_classes: number of scores an image.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: `depth` is none of the paper's or `width` is not positive.

    >>> import torch
    >>> net = ResNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 269434)
    """

    def __init__(
        self,
        depth: int = 20,
        width: int | None = None,
        as_published: bool = False,
        in_channels: int = 1,
        num_classes: int = 10,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(**recipe)
        nets = {**CIFAR, **IMAGENET}
        if depth not in nets:
            raise ValueError(f"model.depth={depth}: choose one of {', '.join(map(str, sorted(nets)))}")
        if width is not None and width < 1:
            raise ValueError(f"model.width={width}: at least one map is needed (null for the paper's)")
        for_imagenet = depth in IMAGENET
        if as_published:
            self.image_size = 224 if for_imagenet else 32
        block, blocks_of_stages = nets[depth]
        channels = width or (64 if for_imagenet else 16)
        inputs = channels
        layers = [stem(in_channels, channels, large=as_published and for_imagenet)]  # (N, 16, 28, 28)
        for index, blocks in enumerate(blocks_of_stages):  # (N, 16, 28, 28), (N, 32, 14, 14), (N, 64, 7, 7)
            stride = 1 if index == 0 else 2
            layers.append(stage(block, blocks, inputs, channels, stride, project=for_imagenet))
            inputs, channels = channels * block.expansion, channels * 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))
        for module in self.modules():  # section 3.4: as in He et al., "Delving Deep into Rectifiers"
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))
