"""Nets without data or values, for tests of their layers, and a fit of one batch."""

from collections.abc import Callable

import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from classic_cnn.classifier import ImageClassifier

Size = tuple[int, ...]  # (channels, side) of a convolution or pooling, (units,) of a linear layer


def on_meta(make: Callable[[], ImageClassifier]) -> tuple[ImageClassifier, Tensor]:
    """A net and an image for it that have shapes but no values, and so cost nothing."""
    with torch.device("meta"):
        net = make().eval()
    assert isinstance(net.example_input_array, Tensor)
    return net, net.example_input_array


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def million_macs(net: nn.Module, images: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        net(images)
    return counter.get_total_flops() / 2e6


def layer_sizes(net: nn.Module, images: Tensor) -> list[Size]:
    """The output size of each convolution, pooling and linear layer."""
    sizes: list[Size] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | nn.Linear):
            module.register_forward_hook(lambda _module, _input, output: sizes.append(tuple(output.shape[1:3])))
    net(images)
    return sizes


def leaves(net: nn.Module) -> list[nn.Module]:
    """The modules without parts, in the order in which they are listed."""
    return [module for module in net.modules() if not list(module.children())]


def fit_one_batch(net: ImageClassifier) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    batch = TensorDataset(torch.rand(16, 1, 28, 28, generator=generator) * 2 - 1, torch.arange(16) % 10)
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(batch, batch_size=16, collate_fn=torch.utils.data.default_collate)
    trainer.fit(net, loader, loader)
    return trainer


def dropped(net: nn.Module) -> list[float]:
    """The shares of units that a net drops, layer by layer."""
    return [module.p for module in net.modules() if isinstance(module, nn.Dropout)]
