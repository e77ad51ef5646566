"""What the pairs are made of: layers, a net that reads labels beside its input, and initializations."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Maxout(nn.Module):
    """Each unit is the largest of `pieces` linear functions (Goodfellow et al., "Maxout Networks", 2013)."""

    def __init__(self, in_features: int, out_features: int, pieces: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features * pieces)
        self.pieces = pieces

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features).unflatten(1, (-1, self.pieces)).amax(2)


class HalfTanh(nn.Module):
    """2 sigmoid(a) - 1 = tanh(a / 2): a sigmoid stretched to [-1, 1]."""

    def forward(self, activation: Tensor) -> Tensor:
        return torch.tanh(activation / 2)


class ConditionalNet(nn.Module):
    """A net that reads labels (N,) beside its inputs: each has a net of its own, whose outputs a third net reads.

    The two outputs are concatenated along dimension 1. Without labels, row n is of class n mod `num_classes`.

    Args:
        num_classes: K.
        input_net: reads the inputs.
        label_net: reads the labels as one-hot vectors (N, K).
        joint_net: reads the concatenated outputs.
    """

    def __init__(self, num_classes: int, input_net: nn.Module, label_net: nn.Module, joint_net: nn.Module) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.input_net = input_net
        self.label_net = label_net
        self.joint_net = joint_net

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is None:
            labels = torch.arange(len(inputs), device=inputs.device) % self.num_classes
        one_hot = nn.functional.one_hot(labels, self.num_classes).to(inputs.dtype)
        return self.joint_net(torch.cat([self.input_net(inputs), self.label_net(one_hot)], 1))


def linear_head(in_features: int, outputs: int = 1, bias: bool = True) -> nn.Sequential:
    """Features (N, in_features) -> logits (N,), or (N, outputs) where there are several."""
    linear = nn.Linear(in_features, outputs, bias)
    return nn.Sequential(linear, nn.Flatten(0)) if outputs == 1 else nn.Sequential(linear)


def initialize(
    net: nn.Sequential, layers: type[nn.Module] | tuple[type[nn.Module], ...], start: Callable[[Tensor], object]
) -> nn.Sequential:
    """Applies `start` to the weight of every layer of these types and sets its bias to 0."""
    for module in net.modules():
        if isinstance(module, layers):
            assert isinstance(module.weight, Tensor)
            start(module.weight)
            if isinstance(module.bias, Tensor):
                nn.init.zeros_(module.bias)
    return net


def uniform_init(net: nn.Sequential, bound: float) -> nn.Sequential:
    """Draws the weights of linear layers from U(-bound, bound), as Goodfellow et al. 2014 did."""
    return initialize(net, nn.Linear, lambda weight: nn.init.uniform_(weight, -bound, bound))


def normal_init(net: nn.Sequential) -> nn.Sequential:
    """Draws the weights from N(0, 0.02), as Radford et al. 2016, section 4."""
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    return initialize(net, layers, lambda weight: nn.init.normal_(weight, std=0.02))


def he_init(net: nn.Sequential) -> nn.Sequential:
    """Draws the weights of linear layers and convolutions as K. He et al. 2015, equation 15, for LeakyReLU 0.2.

    Without batch normalization nothing else sets the scale of the features; the code of Gulrajani et al. 2017 has a
    similar start for its convolutions.
    """
    return initialize(net, (nn.Linear, nn.Conv2d), lambda weight: nn.init.kaiming_normal_(weight, a=0.2))


def orthogonal_init(net: nn.Sequential) -> nn.Sequential:
    """Sets the weights to orthogonal matrices times 0.8, as Metz et al. 2017, appendix A."""
    return initialize(net, nn.Linear, lambda weight: nn.init.orthogonal_(weight, 0.8))
