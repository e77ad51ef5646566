"""What excites a feature map: M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", 2013."""

import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from captum.attr import NeuronGuidedBackprop
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from classic_cnn.alexnet import ResponseNorm
from classic_cnn.lenet import ScaledTanh, SparseConvolution

CONVOLUTIONS = (nn.Conv2d, SparseConvolution)
RESPONSES = (nn.BatchNorm2d, nn.ReLU, ScaledTanh)  # what makes a convolution's sums its feature maps
PASSED = (ResponseNorm, nn.Dropout, nn.Identity)  # of which a projection takes no notice
TOP = 9


class Layer(NamedTuple):
    """A convolution by its name and the module that its feature maps leave: itself, its normalization or its ReLU."""

    name: str
    convolution: nn.Module
    output: nn.Module


class Responses(NamedTuple):
    """For each image and feature map, (N, C): the strongest activation and its place in the flattened map."""

    values: Tensor
    places: Tensor

    def strongest(self, count: int) -> tuple[Tensor, Tensor]:
        """The feature maps (M,) whose nine strongest responses are highest on average, and their nine images (M, 9)."""
        top = self.values.topk(min(TOP, len(self.values)), dim=0)  # (9, C)
        maps = top.values.mean(0).topk(min(count, self.values.shape[1])).indices
        return maps, top.indices[:, maps].T


@torch.no_grad()
def conv_layers(net: nn.Module, example: Tensor) -> list[Layer]:
    """The convolutions of a net in the order in which an image (1, C, S, S) runs through them.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 4, 3))
    >>> [(layer.name, layer.output) for layer in conv_layers(net, torch.zeros(1, 1, 12, 12))]
    [('0', ReLU()), ('3', Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1)))]
    """
    layers: list[Layer] = []
    maps: Tensor | None = None
    names = {module: name for name, module in net.named_modules()}

    def follow(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal maps
        if isinstance(module, CONVOLUTIONS):
            layers.append(Layer(names[module], module, module))
            maps = output
        elif isinstance(module, RESPONSES) and inputs[0] is maps:  # not behind a sum with a shortcut
            layers[-1] = layers[-1]._replace(output=module)
            maps = output

    handles = [m.register_forward_hook(follow) for m in net.modules() if isinstance(m, (*CONVOLUTIONS, *RESPONSES))]
    try:
        net(example)
    finally:
        for handle in handles:
            handle.remove()
    return layers


@torch.no_grad()
def feature_maps(net: nn.Module, layers: Sequence[Layer], images: Tensor) -> list[Tensor]:
    """The feature maps, (N, C, H, W), of each layer."""
    maps: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        maps[module] = output

    handles = [layer.output.register_forward_hook(keep) for layer in layers]
    try:
        net(images)
    finally:
        for handle in handles:
            handle.remove()
    return [maps[layer.output] for layer in layers]


def search(net: nn.Module, layers: Sequence[Layer], batches: Iterable[Tensor]) -> list[Responses]:
    """Where each feature map of each layer responds most in each image of the batches."""
    found = [[maps.flatten(2).max(2) for maps in feature_maps(net, layers, images)] for images in batches]
    of_layer = zip(*found, strict=True)
    return [Responses(*(torch.cat(part).cpu() for part in zip(*parts, strict=True))) for parts in of_layer]


def is_chain(features: nn.Module | None) -> bool:
    """Whether a deconvnet can be attached: convolutions, ReLU, normalization and max pooling in a row, no branches."""
    links = (nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d, *PASSED)
    return isinstance(features, nn.Sequential) and all(isinstance(module, links) for module in features)


@torch.no_grad()
def project(features: nn.Sequential, images: Tensor, maps: Tensor) -> Tensor:
    """What in the images made the last layer of `features` respond most (section 2.1).

    All activations but the strongest one of map `maps[i]` in image i are set to zero; what is left goes back through
    unpooling with the switches of the forward pass, ReLU and the transposed filters. Differs from the paper: where
    pooling windows overlap and chose the same pixel, their parts add up; batch normalization keeps its scale, response
    normalization is left out.

    Args:
        features: a chain (see `is_chain`) from the pixels to the layer.
        images: (N, C, S, S).
        maps: a feature map for each image, (N,).

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
    signal = only_strongest(signal, maps)
    for module, shape, switches in reversed(trail):
        signal = backwards(module, signal, shape, switches)
    return signal


def only_strongest(activations: Tensor, maps: Tensor) -> Tensor:
    """The same activations (N, C, H, W), all zero but the strongest one in one map of each image.

    >>> only_strongest(torch.tensor([[[[1.0, 2.0]], [[5.0, 4.0]]]]), torch.tensor([0]))
    tensor([[[[0., 2.]],
    <BLANKLINE>
             [[0., 0.]]]])
    """
    image = torch.arange(len(maps), device=maps.device)
    value, place = activations[image, maps].flatten(1).max(1)
    alone = torch.zeros_like(activations, memory_format=torch.contiguous_format)
    alone.flatten(2)[image, maps, place] = value  # a view: the memory is contiguous
    return alone


def backwards(module: nn.Module, signal: Tensor, shape: torch.Size, switches: Tensor | None) -> Tensor:
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


def guided(net: nn.Module, layer: Layer, images: Tensor, maps: Tensor) -> Tensor:
    """The same question for any net, by guided backpropagation (Springenberg et al. 2014): (N, C, S, S)."""

    def strongest(activations: Tensor) -> Tensor:
        return activations[torch.arange(len(maps), device=maps.device), maps].flatten(1).amax(1)

    with warnings.catch_warnings(action="ignore"):  # that it sets hooks
        return NeuronGuidedBackprop(net, layer.output).attribute(images.clone(), strongest).detach()


class Window(NamedTuple):
    """The pixels that a value of a map sees: `size` of them, from `start` + its place times `jump`.

    >>> Window().through(nn.Conv2d(1, 6, 5, padding=2)).through(nn.MaxPool2d(2)).through(nn.Conv2d(6, 16, 5))
    Window(size=14, jump=2, start=-2)
    """

    size: int = 1
    jump: int = 1
    start: int = 0

    def through(self, module: nn.Module) -> "Window":
        if not isinstance(module, nn.Conv2d | nn.MaxPool2d):
            return self
        sizes = (module.kernel_size, module.stride, module.padding)
        kernel, stride, padding = (int(size[0] if isinstance(size, tuple) else size) for size in sizes)
        return Window(self.size + (kernel - 1) * self.jump, self.jump * stride, self.start - padding * self.jump)

    def cut(self, images: Tensor, rows: Tensor, columns: Tensor, beyond: float) -> Tensor:
        """The window of one value in each image, (N, C, S, S) -> (N, C, size, size), filled up beyond the border.

        Where the window is as large as the images, these are left as they are.
        """
        if self.size >= images.shape[-1]:
            return images
        padded = F.pad(images, (self.size,) * 4, value=beyond)
        tops, lefts = ((self.size + self.start + self.jump * places).tolist() for places in (rows, columns))
        cut = [
            image[:, top : top + self.size, left : left + self.size]
            for image, top, left in zip(padded, tops, lefts, strict=True)
        ]
        return torch.stack(cut)


def window_of(features: Iterable[nn.Module]) -> Window:
    window = Window()
    for module in features:
        window = window.through(module)
    return window
