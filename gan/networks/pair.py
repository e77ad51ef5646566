"""What every pair of nets offers to the GANs."""

from typing import ClassVar

from torch import nn

from datamodules.contract import CheckedArguments, Positive


class NetworkPair(CheckedArguments):
    """Makes a generator and a discriminator that fit each other.

    A pair sets `sample_shape`, the shape of one sample, and overrides `generator` and `discriminator`; one that has a
    class-conditional form overrides `conditional` too.

    Args:
        width: factor on the number of units and channels; 1 is the paper's width.
    """

    sample_shape: ClassVar[tuple[int, ...]]

    def __init__(self, width: Positive = 1.0) -> None:
        self.width = width

    def scaled(self, count: int) -> int:
        """Units of a layer that has `count` at width 1; at least one.

        >>> NetworkPair(0.25).scaled(1200), NetworkPair(0.001).scaled(64)
        (300, 1)
        """
        return max(1, round(count * self.width))

    def generator(self, latent_dim: int) -> nn.Sequential:
        """Trunk and head of a new generator: latents (N, latent_dim) -> samples (N, *sample_shape)."""
        raise NotImplementedError

    def discriminator(
        self, outputs: int = 1, dropout: bool = True, batch_norm: bool = True, bias: bool = True
    ) -> nn.Sequential:
        """Features and head of a new discriminator: samples (N, *sample_shape) -> logits (N,), or (N, outputs).

        A loss on the gradient at single samples needs neither dropout, which is random, nor batch normalization, which
        mixes the samples (Gulrajani et al. 2017, section 4).

        Args:
            outputs: logits per sample.
            dropout: whether the pair's dropout, if it has any, is in it.
            batch_norm: whether the pair's batch normalization, if it has any, is in it.
            bias: of the head; a loss that is a difference of outputs has no gradient for it.
        """
        raise NotImplementedError

    def conditional(
        self, latent_dim: int, num_classes: int, dropout: bool = True, batch_norm: bool = True, bias: bool = True
    ) -> tuple[nn.Module, nn.Module]:
        """A new class-conditional generator and discriminator, which read labels (N,) as a second argument.

        The options are the discriminator's, see `discriminator`.

        Raises:
            ValueError: the pair has no class-conditional form.
        """
        raise ValueError(f"network {type(self).__name__} has no class-conditional form: use DCGAN or MLP")

    def features(self, dropout: bool = True, batch_norm: bool = True) -> tuple[nn.Module, int]:
        """A new discriminator without its head, samples -> features (N, F), and F.

        >>> from gan.networks import DCGAN
        >>> DCGAN(width=0.5).features()[1]
        512
        """
        features, head = self.discriminator(dropout=dropout, batch_norm=batch_norm)
        [linear] = (module for module in head.modules() if isinstance(module, nn.Linear))
        return features, linear.in_features
