"""Minibatch discrimination: T. Salimans et al., "Improved Techniques for Training GANs", 2016, section 3.2."""

from typing import Unpack

import torch
from torch import Tensor, nn

from datamodules.contract import Count
from gan.adversarial import GAN
from gan.networks import DCGAN, NetworkPair
from gan.networks.blocks import linear_head, normal_init
from gan.recipe import LogRecipe


class MinibatchDiscrimination(nn.Module):
    """Appends to each row of features how close it is to the other rows: (N, A) -> (N, A + kernels).

    M = f T, with T of shape A x kernels x dim; o_b(i) = c_b + sum over j != i of exp(-|M_b(i) - M_b(j)|), of L1 norms.
    The paper's sum includes j = i, a constant 1, and has no c_b; its authors' code is as here.

    >>> layer = MinibatchDiscrimination(7, kernels=3, dim=2)
    >>> twins = layer(torch.ones(4, 7))  # all alike: each has three neighbours at distance 0
    >>> twins.shape, twins[0, 7:].round().tolist()  # c is -1
    (torch.Size([4, 10]), [2.0, 2.0, 2.0])
    """

    def __init__(self, in_features: int, kernels: int = 100, dim: int = 5) -> None:
        super().__init__()
        self.project = nn.Linear(in_features, kernels * dim, bias=False)  # T
        self.bias = nn.Parameter(torch.full((kernels,), -1.0))  # c
        self.kernels = kernels

    def distances(self, features: Tensor) -> Tensor:
        """The distances (kernels, N, N) of rows (N, A), by each kernel."""
        rows = self.project(features).float().unflatten(1, (self.kernels, -1)).transpose(0, 1)  # (kernels, N, dim)
        return torch.cdist(rows, rows, p=1)

    def forward(self, features: Tensor) -> Tensor:
        distances = self.distances(features).clamp(max=80)  # a CPU is slow with numbers as small as exp(-90)
        closeness = torch.exp(-distances).sum(2) - 1  # (kernels, N); without itself
        return torch.cat([features, (closeness.T + self.bias).to(features.dtype)], 1)

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Scales T so that nearest rows are at distance 2 on average, and centres the closeness of rows (N, A)."""
        others = self.distances(features) + torch.eye(len(features), device=features.device) * 1e6
        scale = (others.amin(2).mean(1) / 2).clamp(min=1e-6)  # (kernels,)
        self.project.weight.div_(scale.repeat_interleave(len(self.project.weight) // self.kernels).unsqueeze(1))
        self.bias.copy_(-torch.exp(-others / scale.view(-1, 1, 1)).sum(2).mean(1))


class MinibatchGAN(GAN):
    """GAN whose discriminator sees how alike the images of a batch are: latents (N, 100) -> images (N, 1, 28, 28).

    It recognizes a generator that always makes the same image. As in the authors' code the discriminator has no batch
    normalization, and real images set the scale of the distances and centre the closeness: here the first batch,
    without dropout, there 500 images with it. In a smaller batch, such as the last of an epoch and the 64 images of
    `CollapseWatch`, all rows have fewer neighbours and less closeness.

    Deviations from that code, which is semi-supervised on MNIST: there is no weight normalization, the generator
    takes one step for each of the discriminator's, not three, which is `generator_steps`, and the defaults minimize
    -log D(G(z)) in place of log(1 - D(G(z))), which is `saturating`; nets are DCGAN's and latents Gaussian, not
    uniform.

    >>> import torch
    >>> net = MinibatchGAN()
    >>> net.eval()(torch.zeros(2, 100)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 28, 28]), 13740810)

    Args:
        network: the pair of nets.
        kernels: B of the paper, how many distances are computed.
        dim: C of the paper, the dimension in which each is computed.
    """

    def __init__(
        self,
        latent_dim: Count = 100,
        network: NetworkPair = DCGAN(),
        kernels: Count = 100,
        dim: Count = 5,
        **recipe: Unpack[LogRecipe],
    ) -> None:
        features, count = network.features(batch_norm=False)
        head = normal_init(nn.Sequential(MinibatchDiscrimination(count, kernels, dim), linear_head(count + kernels)))
        super().__init__(network.generator(latent_dim), nn.Sequential(features, *head), latent_dim, **recipe)
        self.network = network

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Calibrates a new discriminator on the first batch."""
        if self.global_step or self.discriminator_steps_done or batch_idx:
            return
        assert isinstance(self.discriminator, nn.Sequential)
        features, layer, _ = self.discriminator
        assert isinstance(layer, MinibatchDiscrimination)
        features.eval()  # without dropout
        with torch.no_grad():
            layer.calibrate(features(batch[0]))
            for weight in layer.parameters():
                weight.copy_(self.trainer.strategy.broadcast(weight.detach()))
        features.train()
