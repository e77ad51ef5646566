"""What excites a feature map: M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", 2013."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from classic_cnn.alexnet import ResponseNorm
from classic_cnn.classifier import ACTIVATIONS
from classic_cnn.lenet import ScaledTanh, SparseConvolution

CONVOLUTIONS = (nn.Conv2d, SparseConvolution)
MAP_MAKERS = (nn.BatchNorm2d, ScaledTanh, *ACTIVATIONS.values())  # what turns sums into feature maps
POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
SKIPPED = (ResponseNorm, nn.Dropout, nn.Identity)  # a projection passes through them unchanged
TOP = 9


class ConvLayer(NamedTuple):
    """A convolution, its name, and what outputs its feature maps: itself, its normalization or activation."""

    name: str
    convolution: nn.Module
    output: nn.Module


class Responses(NamedTuple):
    """For each image and feature map, (N, C): the strongest activation and its position in the flattened map."""

    values: Tensor
    positions: Tensor

    def strongest(self, count: int) -> tuple[Tensor, Tensor]:
        """The channels (M,) whose nine strongest responses are highest on average, and their nine images (M, 9)."""
        top = self.values.topk(min(TOP, len(self.values)), dim=0)  # (9, C)
        channel_indices = top.values.mean(0).topk(min(count, self.values.shape[1])).indices
        return channel_indices, top.indices[:, channel_indices].T


@torch.no_grad()
def conv_layers(net: nn.Module, example: Tensor) -> list[ConvLayer]:
    """The convolutions of a net in the order in which an image (1, C, S, S) runs through them.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 4, 3))
    >>> [(layer.name, layer.output) for layer in conv_layers(net, torch.zeros(1, 1, 12, 12))]
    [('0', ReLU()), ('3', Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1)))]
    """
    layers: list[ConvLayer] = []
    latest: Tensor | None = None  # feature maps of the last convolution so far
    names = {module: name for name, module in net.named_modules()}

    def follow(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal latest
        if isinstance(module, CONVOLUTIONS):
            layers.append(ConvLayer(names[module], module, module))
            latest = output
        elif isinstance(module, MAP_MAKERS) and inputs[0] is latest:  # not behind a sum with a shortcut
            layers[-1] = layers[-1]._replace(output=module)
            latest = output

    handles = [m.register_forward_hook(follow) for m in net.modules() if isinstance(m, (*CONVOLUTIONS, *MAP_MAKERS))]
    try:
        net(example)
    finally:
        for handle in handles:
            handle.remove()
    return layers


@torch.no_grad()
def last_maps(net: nn.Module, example: Tensor) -> nn.Module | None:
    """The module whose feature maps are the last ones of more than one pixel before pooling; None without any.

    These are what a classifier reads: behind branches their concatenation, behind a shortcut the sum.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 4, 5), nn.Flatten())
    >>> last_maps(net, torch.zeros(1, 1, 12, 12))
    ReLU()
    """
    found: list[tuple[Tensor, nn.Module]] = []  # the tensors are kept, or another could take the place of one

    def follow(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, (*POOLING, *SKIPPED)):
            found.append((output, nn.Identity()))  # so that a module that ends with it is not taken for its maker
        elif isinstance(output, Tensor) and output.dim() == 4 and output[0, 0].numel() > 1:
            found.append((output, module))

    handles = [module.register_forward_hook(follow) for module in net.modules()]
    try:
        net(example)
    finally:
        for handle in handles:
            handle.remove()
    makers: dict[int, nn.Module] = {}
    for output, module in found:
        makers.setdefault(id(output), module)
    return next((maker for maker in reversed(makers.values()) if not isinstance(maker, nn.Identity)), None)


@torch.no_grad()
def feature_maps(net: nn.Module, layers: Sequence[ConvLayer], images: Tensor) -> list[Tensor]:
    """The feature maps, (N, C, H, W), of each layer."""
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[module] = output

    handles = [layer.output.register_forward_hook(keep) for layer in layers]
    try:
        net(images)
    finally:
        for handle in handles:
            handle.remove()
    return [outputs[layer.output] for layer in layers]


def strongest_responses(net: nn.Module, layers: Sequence[ConvLayer], batches: Iterable[Tensor]) -> list[Responses]:
    """For each layer, where each of its feature maps responds most in each image of the batches."""
    per_batch = [[outputs.flatten(2).max(2) for outputs in feature_maps(net, layers, images)] for images in batches]
    per_layer = zip(*per_batch, strict=True)
    return [Responses(*(torch.cat(part).cpu() for part in zip(*parts, strict=True))) for parts in per_layer]


def is_chain(features: nn.Module | None) -> bool:
    """Whether a deconvnet can be attached: only convolutions, ReLU, normalization and max pooling, without branches."""
    links = (nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d, *SKIPPED)
    return isinstance(features, nn.Sequential) and all(isinstance(module, links) for module in features)


@torch.no_grad()
def project(features: nn.Sequential, images: Tensor, channel_indices: Tensor) -> Tensor:
    """What in the images made the last layer of `features` respond most (section 2.1).

    All activations but the strongest one of channel `channel_indices[i]` in image i are set to zero; the rest goes back
    through unpooling with the switches of the forward pass, ReLU and the transposed filters. Deviations from the paper:
    where pooling windows overlap and chose the same pixel, their parts add up; batch normalization keeps its scale,
    response normalization is left out.

    Args:
        features: a chain (see `is_chain`) from the pixels to the layer.
        images: (N, C, S, S).
        channel_indices: a channel of the last layer for each image, (N,).

    Returns:
        (N, C, S, S), zero outside the receptive field of that activation.
    """
    trail = []
    signal = images
    for module in features:
        shape, switches = signal.shape, None
        if isinstance(module, nn.MaxPool2d):
            window = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
            signal, switches = F.max_pool2d(signal, *window, return_indices=True)
        else:
            signal = module(signal)
        trail.append((module, shape, switches))
    signal = only_strongest(signal, channel_indices)
    for module, shape, switches in reversed(trail):
        signal = backward_through(module, signal, shape, switches)
    return signal


def only_strongest(activations: Tensor, channel_indices: Tensor) -> Tensor:
    """The same activations (N, C, H, W), all zero but the strongest one in one channel of each image.

    >>> only_strongest(torch.tensor([[[[1.0, 2.0]], [[5.0, 4.0]]]]), torch.tensor([0]))
    tensor([[[[0., 2.]],
    <BLANKLINE>
             [[0., 0.]]]])
    """
    image_indices = torch.arange(len(channel_indices), device=channel_indices.device)
    values, positions = activations[image_indices, channel_indices].flatten(1).max(1)
    kept = torch.zeros_like(activations, memory_format=torch.contiguous_format)
    kept.flatten(2)[image_indices, channel_indices, positions] = values  # a view: the memory is contiguous
    return kept


def backward_through(module: nn.Module, signal: Tensor, shape: torch.Size, switches: Tensor | None) -> Tensor:
    """One layer of the deconvnet: from the `signal` at a module's output to one of the `shape` of its input."""
    if isinstance(module, nn.Conv2d):
        options = (module.stride, module.padding, module.dilation, module.groups)
        return conv2d_input(shape, module.weight, signal, *options)
    if switches is not None:
        return signal.new_zeros(shape).flatten(2).scatter_add(2, switches.flatten(2), signal.flatten(2)).view(shape)
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_var is not None
        return signal * (module.weight / (module.running_var + module.eps).sqrt()).view(-1, 1, 1)
    return signal.relu() if isinstance(module, nn.ReLU) else signal
