"""The pairs of nets that a GAN can be built from; they decide what a sample is.

mlp, of the first GAN's paper, and dcgan make images of 28x28 gray pixels. points makes points of the plane, stacked and
stacked_half images of three channels: small pairs with which Metz et al. 2017 count the modes a generator has found.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

STACKED = {"stacked": (2, 4, 8), "stacked_half": (4, 8, 16)}  # a discriminator's maps: a quarter, half a generator's
GRAY = ("mlp", "dcgan")
SHAPES = dict.fromkeys(GRAY, (1, 28, 28)) | {"points": (2,)} | dict.fromkeys(STACKED, (3, 28, 28))  # of a sample
NETWORKS = tuple(SHAPES)


class Maxout(nn.Module):
    """Each unit the largest of `pieces` linear functions (Goodfellow et al., "Maxout Networks", 2013)."""

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


class Quarter(nn.Module):
    """A quarter of its input: brings points of a ring of radius 2 to about [-1, 1]."""

    def forward(self, points: Tensor) -> Tensor:
        return points / 4


class Joined(nn.Module):
    """A net that reads labels (N,) beside its inputs: both through parts of their own, then joined along dimension 1.

    Without labels it takes one class after the other.
    """

    def __init__(self, num_classes: int, of_inputs: nn.Module, of_labels: nn.Module, joint: nn.Module) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.of_inputs = of_inputs
        self.of_labels = of_labels  # of one-hot vectors (N, num_classes)
        self.joint = joint

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is None:
            labels = torch.arange(len(inputs), device=inputs.device) % self.num_classes
        one_hot = nn.functional.one_hot(labels, self.num_classes).to(inputs.dtype)
        return self.joint(torch.cat([self.of_inputs(inputs), self.of_labels(one_hot)], 1))


def generator(network: str, latent_dim: int, width: float = 1.0) -> nn.Sequential:
    """Trunk and head of a generator, latents (N, latent_dim) -> samples (N, *SHAPES[network]), images in [-1, 1].

    mlp: latent_dim-1200-1200-784 (Goodfellow et al. 2014); the head is its last layer. dcgan: two linear layers and two
    transposed convolutions with batch normalization (the guidelines of Radford et al. 2016, section 3, at 28x28); the
    head is its transposed convolutions. points: latent_dim-128-128-2 with ReLU, the head from the second layer on
    (Metz et al. 2017, appendix A, by others' code that rebuilds it). stacked(_half): a linear layer, three transposed
    convolutions and a convolution of 64-32-16-8-3 maps (Metz et al. 2017, as Lin et al., "PacGAN", 2018, rebuilt it in
    their code); the head from the first transposed convolution on.

    >>> sum(p.numel() for p in generator("mlp", 100).parameters())
    2503984
    >>> sum(p.numel() for p in generator("dcgan", 100).parameters())
    6671745
    >>> [sum(p.numel() for p in generator(name, 256).parameters()) for name in ("points", "stacked")]
    [49666, 286795]
    """
    if check(network, width) == "mlp":
        hidden = scaled(1200, width)
        trunk = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        head = nn.Sequential(nn.Linear(hidden, 784), HalfTanh(), nn.Unflatten(1, (1, 28, 28)))
        return uniform(nn.Sequential(trunk, head), 0.05)
    if network == "points":
        hidden = scaled(128, width)
        trunk = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU())
        return orthogonal(
            nn.Sequential(trunk, nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)))
        )
    if network in STACKED:
        first, second, third, fourth = (scaled(count, width) for count in (64, 32, 16, 8))
        trunk = nn.Sequential(
            *(nn.Linear(latent_dim, first * 16, bias=False), nn.Unflatten(1, (first, 4, 4))),
            *(nn.BatchNorm2d(first), nn.ReLU()),
        )
        head = nn.Sequential(
            *(nn.ConvTranspose2d(first, second, 3, 2, 1, bias=False), nn.BatchNorm2d(second), nn.ReLU()),  # 7x7
            *(nn.ConvTranspose2d(second, third, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(third), nn.ReLU()),  # 14x14
            *(nn.ConvTranspose2d(third, fourth, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(fourth), nn.ReLU()),  # 28x28
            *(nn.Conv2d(fourth, 3, 3, 1, 1), nn.Tanh()),  # (N, 3, 28, 28)
        )
        return normal(nn.Sequential(trunk, head))
    hidden, maps, half = (scaled(count, width) for count in (1024, 128, 64))
    trunk = nn.Sequential(
        *(nn.Linear(latent_dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()),
        *(nn.Linear(hidden, maps * 49, bias=False), nn.BatchNorm1d(maps * 49), nn.ReLU()),
        nn.Unflatten(1, (maps, 7, 7)),
    )
    head = nn.Sequential(
        *(nn.ConvTranspose2d(maps, half, 4, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()),  # (N, 64, 14, 14)
        *(nn.ConvTranspose2d(half, 1, 4, 2, 1), nn.Tanh()),  # (N, 1, 28, 28)
    )
    return normal(nn.Sequential(trunk, head))


def discriminator(
    network: str,
    width: float = 1.0,
    outputs: int = 1,
    in_channels: int = 1,
    dropout: bool = True,
    batch_norm: bool = True,
    bias: bool = True,
) -> nn.Sequential:
    """Features and head of a discriminator, samples (N, *SHAPES[network]) -> logits (N,), or (N, outputs).

    mlp: 784-240-240-1, maxout of 5 pieces, with dropout (Goodfellow et al. 2014). dcgan: two convolutions and a linear
    layer with LeakyReLU 0.2 and, but for the first, batch normalization. points: a quarter of the point, then
    2-128-128-1 with ReLU; appendix A of Metz et al. 2017 has one hidden layer, their demo two, with tanh.
    stacked: three convolutions of 2-4-8 maps, a quarter of the generator's, with LeakyReLU 0.3 and batch normalization;
    stacked_half: of 4-8-16. The head is the last, linear layer. A loss that looks at the gradient of one image wants
    neither dropout, which is random, nor batch normalization, which mixes the images (Gulrajani et al. 2017, section
    4). `bias` is the head's: where a loss is a difference of outputs, none would ever be learned.

    >>> sum(p.numel() for p in discriminator("mlp").parameters())
    1231441
    >>> sum(p.numel() for p in discriminator("dcgan").parameters())
    6558017
    >>> [sum(p.numel() for p in discriminator(name).parameters()) for name in ("points", "stacked")]
    [17025, 571]
    """
    if check(network, width) == "mlp":
        hidden, drop = scaled(240, width), nn.Dropout if dropout else lambda _: nn.Identity()
        features = nn.Sequential(
            nn.Flatten(),
            *(drop(0.2), Maxout(in_channels * 784, hidden)),
            *(drop(0.5), Maxout(hidden, hidden)),
            drop(0.5),
        )
        return uniform(nn.Sequential(features, linear_head(hidden, outputs, bias)), 0.005)
    if network == "points":
        hidden = scaled(128, width)
        features = nn.Sequential(Quarter(), nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        return orthogonal(nn.Sequential(features, linear_head(hidden, outputs, bias)))
    norm2d, norm1d = (nn.BatchNorm2d, nn.BatchNorm1d) if batch_norm else (nn.Identity, nn.Identity)
    start = normal if batch_norm else he
    if network in STACKED:
        maps_of_each = [3, *(scaled(count, width) for count in STACKED[network])]
        layers = []
        for maps, more in pairwise(maps_of_each):  # (N, 2, 14, 14), (N, 4, 7, 7), (N, 8, 4, 4) of a quarter
            layers += [nn.Conv2d(maps, more, 3, 2, 1, bias=not batch_norm), norm2d(more), nn.LeakyReLU(0.3)]
        features = nn.Sequential(*layers, nn.Flatten())
        return start(nn.Sequential(features, linear_head(maps_of_each[-1] * 16, outputs, bias)))
    half, maps, hidden = (scaled(count, width) for count in (64, 128, 1024))
    features = nn.Sequential(
        *(nn.Conv2d(in_channels, half, 4, 2, 1), nn.LeakyReLU(0.2)),  # (N, 64, 14, 14)
        *(nn.Conv2d(half, maps, 4, 2, 1, bias=not batch_norm), norm2d(maps), nn.LeakyReLU(0.2)),  # (N, 128, 7, 7)
        *(nn.Flatten(), nn.Linear(maps * 49, hidden, bias=not batch_norm), norm1d(hidden), nn.LeakyReLU(0.2)),
    )
    return start(nn.Sequential(features, linear_head(hidden, outputs, bias)))


def conditional_dcgan(num_classes: int, latent_dim: int, width: float, **options: bool) -> tuple[Joined, Joined]:
    """The pair dcgan, told the class: the label joins the latents as 50 numbers and the image as a second channel.

    `options` are the discriminator's: dropout, batch_norm, bias.

    >>> generator, discriminator = conditional_dcgan(10, latent_dim=100, width=0.1)
    >>> labels = torch.tensor([3, 7])
    >>> discriminator(generator(torch.zeros(2, 100), labels), labels).shape
    torch.Size([2])
    """
    to_latents = nn.Linear(num_classes, 50)
    to_channel = nn.Sequential(nn.Linear(num_classes, 784), nn.Unflatten(1, (1, 28, 28)))
    return (
        Joined(num_classes, nn.Identity(), to_latents, generator("dcgan", latent_dim + 50, width)),
        Joined(num_classes, nn.Identity(), to_channel, discriminator("dcgan", width, in_channels=2, **options)),
    )


def smooth_pair(
    network: str, latent_dim: int, width: float, num_classes: int | None, **options: bool
) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of a paper that looks at the gradient of one image; where classes are, told them.

    >>> [type(net).__name__ for net in smooth_pair("mlp", 100, 0.1, num_classes=None)]
    ['Sequential', 'Sequential']
    >>> [type(net).__name__ for net in smooth_pair("dcgan", 100, 0.1, num_classes=10)]
    ['Joined', 'Joined']

    Raises:
        ValueError: classes for a pair other than dcgan.
    """
    options |= {"dropout": False, "batch_norm": False}
    if num_classes is None:
        return generator(network, latent_dim, width), discriminator(network, width, **options)
    if check(network, width) != "dcgan":
        raise ValueError(f"model.network={network} cannot be told the class: use dcgan, or model.num_classes=null")
    return conditional_dcgan(num_classes, latent_dim, width, **options)


def without_head(net: nn.Sequential) -> tuple[nn.Module, int]:
    """A discriminator's features, samples (N, ...) -> (N, F), and F, for a head of another kind.

    >>> without_head(discriminator("dcgan", width=0.5))[1]
    512
    """
    features, head = net
    [linear] = (module for module in head.modules() if isinstance(module, nn.Linear))
    return features, linear.in_features


def linear_head(in_features: int, outputs: int = 1, bias: bool = True) -> nn.Sequential:
    """Features (N, in_features) -> logits (N,), or (N, outputs) of more than one."""
    linear = nn.Linear(in_features, outputs, bias)
    return nn.Sequential(linear, nn.Flatten(0)) if outputs == 1 else nn.Sequential(linear)


def check(network: str, width: float, networks: tuple[str, ...] = NETWORKS) -> str:
    """The name of the pair, if there is one of that name and width among those that a GAN can use.

    Raises:
        ValueError: there is not.
    """
    if network not in networks:
        raise ValueError(f"model.network={network}: choose one of {', '.join(networks)}")
    if not width > 0:
        raise ValueError(f"model.width={width}: a number above 0 is needed, 1 is the paper's width")
    return network


def scaled(count: int, width: float) -> int:
    """Units of a layer that has `count` at width 1.

    >>> scaled(1200, 0.25), scaled(64, 0.001)
    (300, 1)
    """
    return max(1, round(count * width))


def uniform(net: nn.Sequential, bound: float) -> nn.Sequential:
    """Starts all weights of linear layers from U(-bound, bound), as Goodfellow et al. 2014 did, biases from 0."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def normal(net: nn.Sequential) -> nn.Sequential:
    """Starts all weights from N(0, 0.02), as Radford et al. 2016, section 4, biases from 0."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def he(net: nn.Sequential) -> nn.Sequential:
    """Starts all weights as K. He et al. 2015, equation 15, for LeakyReLU 0.2, biases from 0.

    As in the code of Gulrajani et al. 2017: without batch normalization nothing else sets the scale of the features.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def orthogonal(net: nn.Sequential) -> nn.Sequential:
    """Starts all weights from orthogonal matrices times 0.8, as Metz et al. 2017, appendix A, biases from 0."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, 0.8)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
