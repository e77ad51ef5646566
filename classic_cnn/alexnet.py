"""AlexNet: A. Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012."""

from contextlib import nullcontext
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from classic_cnn.classifier import ImageClassifier, Recipe


class Normalized(torch.autograd.Function):
    """a_i / s_i^0.75 with s = k + alpha a^2 (a 1x1 convolution), and its gradient in half the passes over memory.

    With respect to a_j it is g_j / s_j^0.75 - 1.5 a_j sum_i alpha_ij g_i a_i / s_i^1.75; alpha is symmetric.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, alpha: Tensor, k: Tensor) -> Tensor:
        scale = F.conv2d(maps.square(), alpha, k)
        power = scale.sqrt().mul_(scale).rsqrt_()
        ctx.save_for_backward(maps, alpha, scale, power)
        return maps * power

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        maps, alpha, scale, power = ctx.saved_tensors
        direct = gradient * power
        inner = F.conv2d((direct * maps).div_(scale), alpha)
        return direct.addcmul_(inner.mul_(-1.5), maps), None, None


class ResponseNorm(nn.Module):
    """Local response normalization (section 3.3): activations (N, C, H, W) -> the same shape.

    b_i = a_i / (k + alpha sum_j a_j^2)^0.75 over the five maps j around i, with k = 2 and alpha = 1e-4 (torch divides
    its alpha by the number of maps, the paper does not). The sum is a 1x1 convolution with a banded matrix: with its
    gradient 9 times as fast as nn.LocalResponseNorm on (128, 48, 28, 28), channels_last, one CPU thread. Under
    autocast it is computed in float32, which is both faster on a CPU and up to three times as accurate as in bfloat16.

    >>> ResponseNorm(8)(torch.ones(1, 8, 1, 1)).flatten()[:3]  # three, four and five maps in reach
    tensor([0.5945, 0.5945, 0.5945])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        position = torch.arange(channels)
        near = (position.unsqueeze(1) - position).abs() <= 2
        self.register_buffer("alpha", 1e-4 * near.float()[:, :, None, None], persistent=False)  # (C, C, 1, 1)
        self.register_buffer("k", torch.full((channels,), 2.0), persistent=False)
        self.alpha: Tensor
        self.k: Tensor

    def forward(self, maps: Tensor) -> Tensor:
        on = maps.device.type
        with nullcontext() if on == "meta" else torch.autocast(on, enabled=False):  # autocast knows no meta device
            wide = maps.to(self.alpha.dtype)
            return Normalized.apply(wide, self.alpha, self.k).to(maps.dtype)


class AlexNet(ImageClassifier):
    """AlexNet for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form: what one of the paper's two GPUs held. Differs from the paper: half the maps, no
    groups, a 3x3 stem with stride 1, no pooling after the fifth convolution, 1024 units in the hidden layers, He's
    initialization.

    Args:
        as_published: the paper's net, (N, 3, 227, 227) -> (N, 1000) with 60,965,224 parameters when `in_channels` is 3
            and `num_classes` 1000: two groups, local response normalization after the ReLU of the first two
            convolutions, weights from N(0, 0.01). Differs from the paper: none (its 224 is 227 in fact, for
            (227 - 11) / 4 + 1 = 55).
        one_gpu: with `as_published`, the net of textbooks that one GPU holds (section 8.1 of "Dive into Deep
            Learning"), (N, 1, 224, 224) -> (N, 10) with 46,764,746 parameters: no groups, no response normalization,
            one pixel of padding at the stem, Glorot's initialization.
        in_channels: 1 for gray images, 3 for colour.
        num_classes: number of scores an image.
        dropout: probability to drop a hidden unit of the two large layers (section 4.2).
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: `one_gpu` without `as_published`.

    >>> net = AlexNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 6708330)
    """

    def __init__(
        self,
        as_published: bool = False,
        in_channels: int = 1,
        num_classes: int = 10,
        dropout: float = 0.5,
        one_gpu: bool = False,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(**recipe)
        if one_gpu and not as_published:
            raise ValueError("model.one_gpu=true is a variant of the published net: add model.as_published=true")
        if as_published:
            self.image_size = 224 if one_gpu else 227
            self.features = published_features(in_channels, one_gpu)
            inputs, hidden = 256 * (5 * 5 if one_gpu else 6 * 6), 4096
        else:
            self.features = native_features(in_channels)
            inputs, hidden = 128 * 6 * 6, 1024
        self.classifier = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(hidden, num_classes),
        )
        self._initialize(as_published, one_gpu)

    def _initialize(self, as_published: bool, one_gpu: bool) -> None:
        for parameter in self.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            elif one_gpu:
                nn.init.xavier_uniform_(parameter)
            elif as_published:
                nn.init.normal_(parameter, std=0.01)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        if as_published and not one_gpu:  # section 5: biases of 1 feed the ReLUs positive inputs early on
            biases = [parameter for parameter in self.parameters() if parameter.dim() == 1]
            for layer in (2, 4, 5, 6, 7):
                nn.init.ones_(biases[layer - 1])

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def published_features(in_channels: int, one_gpu: bool) -> nn.Sequential:
    """Section 3.5: five convolutions with overlapping pooling, 3x3 windows at a stride of 2."""
    groups, padding = (1, 1) if one_gpu else (2, 0)
    norm: type[nn.Module] = nn.Identity if one_gpu else ResponseNorm
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 96, 11, stride=4, padding=padding), nn.ReLU(), norm(96)),  # (N, 96, 55, 55)
        nn.MaxPool2d(3, stride=2),  # (N, 96, 27, 27)
        *(nn.Conv2d(96, 256, 5, padding=2, groups=groups), nn.ReLU(), norm(256)),  # (N, 256, 27, 27)
        nn.MaxPool2d(3, stride=2),  # (N, 256, 13, 13)
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),  # reads both groups (N, 384, 13, 13)
        *(nn.Conv2d(384, 384, 3, padding=1, groups=groups), nn.ReLU()),  # (N, 384, 13, 13)
        *(nn.Conv2d(384, 256, 3, padding=1, groups=groups), nn.ReLU()),  # (N, 256, 13, 13)
        nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
    )


def native_features(in_channels: int) -> nn.Sequential:
    """One group of the paper's two, for 28x28 images."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 48, 3, padding=1), nn.ReLU(), ResponseNorm(48)),  # (N, 48, 28, 28)
        nn.MaxPool2d(3, stride=2),  # (N, 48, 13, 13)
        *(nn.Conv2d(48, 128, 5, padding=2), nn.ReLU(), ResponseNorm(128)),  # (N, 128, 13, 13)
        nn.MaxPool2d(3, stride=2),  # (N, 128, 6, 6)
        *(nn.Conv2d(128, 192, 3, padding=1), nn.ReLU()),  # (N, 192, 6, 6)
        *(nn.Conv2d(192, 192, 3, padding=1), nn.ReLU()),  # (N, 192, 6, 6)
        *(nn.Conv2d(192, 128, 3, padding=1), nn.ReLU()),  # (N, 128, 6, 6)
    )
