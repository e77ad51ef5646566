"""The arguments that say how to train a GAN, the same for every paper."""

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import TypedDict

from datamodules.contract import Count, Share


class Recipe(TypedDict, total=False):
    """How to train, the same for every GAN; see `GAN`."""

    optimizer: Callable[..., Optimizer]
    discriminator_optimizer: Callable[..., Optimizer] | None
    lr_scheduler: Callable[[Optimizer], LRScheduler] | None
    discriminator_steps: Count
    generator_steps: Count
    reuse_fakes: bool
    ema_decay: Share | None


class LogRecipe(Recipe, total=False):
    """The same for a GAN whose generator has the first paper's choice of losses."""

    saturating: bool
