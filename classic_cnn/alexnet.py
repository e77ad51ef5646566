"""AlexNet: A. Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from classic_cnn.classifier import ACTIVATIONS, Activation, ImageClassifier, Recipe
from datamodules.contract import Count, Positive, Share


class NormalizeResponses(torch.autograd.Function):
    """b_i = a_i / s_i^0.75 with s = k + alpha a^2 (a 1x1 convolution), and its gradient in half the passes over memory.

    The gradient with respect to a_j is g_j / s_j^0.75 - 1.5 a_j sum_i alpha_ij g_i a_i / s_i^1.75; alpha is symmetric.
    """

    @staticmethod
    def forward(ctx: Any, activations: Tensor, alpha: Tensor, k: Tensor) -> Tensor:
        scale = F.conv2d(activations.square(), alpha, k)
        power = scale.sqrt().mul_(scale).rsqrt_()
        ctx.save_for_backward(activations, alpha, scale, power)
        return activations * power

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        activations, alpha, scale, power = ctx.saved_tensors
        direct = gradient * power
        inner = F.conv2d((direct * activations).div_(scale), alpha)
        return direct.addcmul_(inner.mul_(-1.5), activations), None, None


class ResponseNorm(nn.Module):
    """Local response normalization (section 3.3): activations (N, C, H, W) -> the same shape.

    b_i = a_i / (k + alpha sum_j a_j^2)^0.75 over the five channels j around i, with k = 2 and alpha = 1e-4 (torch
    divides its alpha by the number of channels, the paper does not). The sum is a 1x1 convolution with a banded matrix:
    with its gradient 9 times as fast as nn.LocalResponseNorm on (128, 48, 28, 28), channels_last, one CPU thread. Under
    autocast it is computed in float32, which is both faster on a CPU and up to three times as accurate as in bfloat16.

    The constants are for the activations of pixels of about +-128: of small activations all are scaled by 2^-0.75 =
    0.59.

    >>> ResponseNorm(8)(torch.ones(1, 8, 1, 1)).flatten()[:3]  # sums over three, four and five channels
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

    def forward(self, activations: Tensor) -> Tensor:
        device = activations.device.type
        # autocast does not exist on the meta device
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            exact = activations.to(self.alpha.dtype)
            return NormalizeResponses.apply(exact, self.alpha, self.k).to(activations.dtype)


class RawPixelConv2d(nn.Conv2d):
    """A convolution of the raw pixels that the papers' nets read: those in [-1, 1] times 127.5.

    Weights from N(0, 0.01), the learning rate, `ResponseNorm`'s constants and ZFNet's bound of its filters belong to
    it.

    >>> conv = RawPixelConv2d(1, 1, kernel_size=1, bias=False)
    >>> _ = nn.init.ones_(conv.weight)
    >>> conv(torch.tensor([[[[-1.0, 0.5]]]])).flatten().tolist()
    [-127.5, 63.75]
    """

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * 127.5)


class AlexNet(ImageClassifier):
    """AlexNet for small gray images, (N, 1, 28, 28) in [-1, 1] -> (N, 10).

    The default is the native form: what one of the paper's two GPUs held. Deviations from the paper: half the channels,
    no groups, a 3x3 stem with stride 1, no pooling after the fifth convolution, 1024 units in the hidden layers, He's
    initialization, and pixels in [-1, 1], of which response normalization makes little more than a constant factor.

    `AlexNet.published()` is the paper's net, (N, 3, 227, 227) -> (N, 1000), with 60,965,224 parameters: two groups,
    local response normalization after the ReLU of the first two convolutions, weights from N(0, 0.01), pixels that the
    first convolution scales to [-127.5, 127.5] (section 2: raw values less their mean, which is the data set's
    `normalize`). No deviations from the paper (its 224 is 227 in fact, for (227 - 11) / 4 + 1 = 55).

    Args:
        layout: `small` for images of about 28 pixels; `two_gpus`, the paper's; or `one_gpu`, the net of textbooks that
            one GPU holds (section 8.1 of "Dive into Deep Learning"), with 46,764,746 parameters for 10 classes of gray
            224x224 images: no groups, no response normalization, one pixel of padding at the stem, Glorot's
            initialization.
        width: factor of the channels and hidden units of the layout `small`.
        activation: of all hidden layers (section 3.1), for the layout `small`; He's initialization has its gain.
        response_norm: normalizes responses behind the first two convolutions (section 3.3), for the layout `small`.
        groups: 2 has the convolutions 2, 4 and 5 in two halves that do not read each other, as the paper's two GPUs
            (section 3.5), for the layout `small`.
        overlapping_pooling: windows of 3x3 pixels, not 2x2, at a stride of 2 (section 3.4), for the layout `small`.
        dropout: probability to drop a hidden unit of the two large layers (section 4.2).
        in_channels: 1 for gray images, 3 for colour.
        num_classes: logits per image.
        image_size: side of the images in pixels.
        recipe: see `ImageClassifier`.

    Raises:
        ValueError: the images are too small, or what is for the layout `small` is set for another one.

    >>> net = AlexNet()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 6708330)
    """

    PUBLISHED: ClassVar[Mapping[str, Any]] = {
        "layout": "two_gpus",
        "in_channels": 3,
        "num_classes": 1000,
        "image_size": 227,
    }

    def __init__(
        self,
        layout: Literal["small", "two_gpus", "one_gpu"] = "small",
        width: Positive = 1.0,
        activation: Activation = "relu",
        response_norm: bool = True,
        overlapping_pooling: bool = True,
        groups: Literal[1, 2] = 1,
        dropout: Share = 0.5,
        in_channels: Count = 1,
        num_classes: Count = 10,
        image_size: Count = 28,
        **recipe: Unpack[Recipe],
    ) -> None:
        super().__init__(in_channels, num_classes, image_size, **recipe)
        variant = (width, activation, response_norm, overlapping_pooling, groups)
        if layout == "small":
            self.features = small_features(in_channels, *variant)
        elif variant == (1.0, "relu", True, True, 1):
            self.features = (two_gpu_features if layout == "two_gpus" else one_gpu_features)(in_channels)
        else:
            names = "width, activation, response_norm, overlapping_pooling and groups"
            raise ValueError(f"{names} are fixed in layout={layout}")
        hidden = max(1, round(1024 * width)) if layout == "small" else 4096
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(self.shape_after(self.features)), hidden),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        self._initialize(layout, activation)

    def _initialize(self, layout: str, activation: Activation) -> None:
        weights = [parameter for parameter in self.parameters() if parameter.dim() > 1]
        biases = [parameter for parameter in self.parameters() if parameter.dim() == 1]
        for weight in weights:
            if layout == "small":
                nn.init.kaiming_normal_(weight, nonlinearity=activation)
            elif layout == "two_gpus":
                nn.init.normal_(weight, std=0.01)
            else:
                nn.init.xavier_uniform_(weight)
        for layer, bias in enumerate(biases, start=1):
            # section 5: biases of 1 feed the ReLUs positive inputs early on
            nn.init.constant_(bias, float(layout == "two_gpus" and layer in (2, 4, 5, 6, 7)))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def small_features(
    in_channels: int, width: float, activation: str, response_norm: bool, overlapping_pooling: bool, groups: int
) -> nn.Sequential:
    """One of the paper's two groups, for 28x28 images; or both, of half the channels each."""
    c1, c2, c3, c4, c5 = (max(1, round(channels * width)) for channels in (48, 128, 192, 192, 128))
    active = ACTIVATIONS[activation]
    window = 3 if overlapping_pooling else 2
    return nn.Sequential(
        nn.Conv2d(in_channels, c1, 3, padding=1),  # (N, 48, 28, 28)
        active(),
        ResponseNorm(c1) if response_norm else nn.Identity(),
        nn.MaxPool2d(window, stride=2),  # (N, 48, 13, 13)
        nn.Conv2d(c1, c2, 5, padding=2, groups=groups),  # (N, 128, 13, 13)
        active(),
        ResponseNorm(c2) if response_norm else nn.Identity(),
        nn.MaxPool2d(window, stride=2),  # (N, 128, 6, 6)
        nn.Conv2d(c2, c3, 3, padding=1),  # (N, 192, 6, 6)
        active(),
        nn.Conv2d(c3, c4, 3, padding=1, groups=groups),  # (N, 192, 6, 6)
        active(),
        nn.Conv2d(c4, c5, 3, padding=1, groups=groups),  # (N, 128, 6, 6)
        active(),
    )


def two_gpu_features(in_channels: int) -> nn.Sequential:
    """Section 3.5: five convolutions with overlapping pooling, 3x3 windows at a stride of 2."""
    return nn.Sequential(
        RawPixelConv2d(in_channels, 96, 11, stride=4),  # (N, 96, 55, 55)
        nn.ReLU(),
        ResponseNorm(96),
        nn.MaxPool2d(3, stride=2),  # (N, 96, 27, 27)
        nn.Conv2d(96, 256, 5, padding=2, groups=2),  # (N, 256, 27, 27)
        nn.ReLU(),
        ResponseNorm(256),
        nn.MaxPool2d(3, stride=2),  # (N, 256, 13, 13)
        nn.Conv2d(256, 384, 3, padding=1),  # reads both groups (N, 384, 13, 13)
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),  # (N, 384, 13, 13)
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),  # (N, 256, 13, 13)
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
    )


def one_gpu_features(in_channels: int) -> nn.Sequential:
    """The same without groups and response normalization."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 96, 11, stride=4, padding=1),  # (N, 96, 54, 54)
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # (N, 96, 26, 26)
        nn.Conv2d(96, 256, 5, padding=2),  # (N, 256, 26, 26)
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # (N, 256, 12, 12)
        nn.Conv2d(256, 384, 3, padding=1),  # (N, 384, 12, 12)
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1),  # (N, 384, 12, 12)
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),  # (N, 256, 12, 12)
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # (N, 256, 5, 5)
    )
