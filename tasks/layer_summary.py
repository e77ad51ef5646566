"""A net's layers in the order they run: output shapes, parameters, operations, receptive fields."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from classic_cnn.explain.receptive_field import ReceptiveField

PASS_ON = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Sequential)  # an empty one; they compute and store nothing


class Layer(NamedTuple):
    """One line of the summary; the bytes are those of its float32 output for one image."""

    name: str
    module: nn.Module
    output: tuple[int, ...]  # without the batch
    parameters: int
    macs: int  # multiply-accumulate operations for one image
    field: ReceptiveField | None  # None: its input is not an image but latents

    @property
    def bytes(self) -> int:
        return 4 * torch.Size(self.output).numel()


def trace(model: nn.Module, example: Tensor) -> list[Layer]:
    """Runs a net once, on an image (1, C, H, W) or latents (1, Z), and returns its layers in the order they ran.

    For a GAN, these are the generator's layers and then the discriminator's. A layer that runs twice is listed twice,
    the second time without parameters.

    >>> [layer] = trace(nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 10, 10))
    >>> layer.output, layer.parameters, layer.macs, layer.bytes, layer.field
    ((8, 8, 8), 224, 13824, 2048, ReceptiveField(size=3, jump=1, start=0))
    """
    layers: list[Layer] = []
    fields, counter = FieldTracer(), FlopCounterMode(display=False)
    before = 0

    def start(module: nn.Module, inputs: Any) -> None:
        nonlocal before
        before = counter.get_total_flops()

    def add(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            new = 0 if any(layer.module is module for layer in layers) else parameters(module)
            macs = (counter.get_total_flops() - before) // 2
            layers.append(Layer(name, module, tuple(output.shape[1:]), new, macs, fields.of(output)))

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    leaves = [(name, module) for name, module in leaves if not isinstance(module, PASS_ON)]
    handles = [module.register_forward_pre_hook(start) for _, module in leaves]
    handles += [module.register_forward_hook(add(name)) for name, module in leaves]
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), counter, fields:
            output = model(fields.start(example))
            if isinstance(discriminator := getattr(model, "discriminator", None), nn.Module):
                discriminator(fields.start(output))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return layers


class FieldTracer(TorchFunctionMode):
    """Follows the receptive field through every operation; where branches meet, the widest counts."""

    def __init__(self) -> None:
        super().__init__()
        # by the id of a tensor, which is unique only while the tensor is kept
        self.fields: dict[int, tuple[ReceptiveField, Tensor]] = {}

    def start(self, images: Tensor) -> Tensor:
        """Gives each pixel of images (N, C, H, W) a receptive field of itself; latents (N, Z) have none."""
        if images.dim() == 4:
            self.fields[id(images)] = ReceptiveField(), images
        return images

    def of(self, tensor: Tensor) -> ReceptiveField | None:
        return self.fields[id(tensor)][0] if id(tensor) in self.fields else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if isinstance(output, Tensor) and not name.startswith("conv_transpose"):  # whose outputs see unequal fields
            listed = [part for arg in args for part in (arg if isinstance(arg, list | tuple) else [arg])]
            known = [part for part in listed if isinstance(part, Tensor) and id(part) in self.fields]
            fields = [self.fields[id(part)][0] for part in known]
            if fields:
                widest = max(fields)
                self.fields[id(output)] = widest.through(*window(name, known[0], output, args, kwargs or {})), output
        return output


def window(
    name: str, maps: Tensor, output: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int, int, int, int]:
    """Kernel size, stride, padding and dilation of the function of torch that made `output` from `maps`.

    >>> window("max_pool2d", torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4), (None, 3), {"stride": 2})
    (3, 2, 0, 1)
    >>> window("flatten", torch.zeros(1, 16, 5, 5), torch.zeros(1, 400), (None, 1), {})  # what follows sees the map
    (5, 5, 0, 1)
    """

    def argument(place: int, keyword: str, default: Any) -> int:
        value = args[place] if len(args) > place else kwargs.get(keyword, default)
        return value[-1] if isinstance(value, list | tuple) else value or default

    if name == "conv2d":
        weight = args[1] if len(args) > 1 else kwargs["weight"]
        return weight.shape[-1], argument(3, "stride", 1), argument(4, "padding", 0), argument(5, "dilation", 1)
    if name in ("max_pool2d", "avg_pool2d"):
        kernel_size = argument(1, "kernel_size", None)
        return kernel_size, argument(2, "stride", kernel_size), argument(3, "padding", 0), 1
    if maps.dim() == 4 and (name == "adaptive_avg_pool2d" or output.dim() < 4):
        side = maps.shape[-1]
        parts = output.shape[-1] if output.dim() == 4 else 1
        stride = side // parts
        return side - (parts - 1) * stride, stride, 0, 1
    return 1, 1, 0, 1


def parameters(net: nn.Module) -> int:
    """How many numbers are learned: without an average of them."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def kind(module: nn.Module) -> str:
    """The kind of a layer, with its window.

    >>> kind(nn.Conv2d(8, 8, 3, stride=2, groups=8)), kind(nn.MaxPool2d(3, 2)), kind(nn.ReLU())
    ('Conv2d 3x3/2 depthwise', 'MaxPool2d 3x3/2', 'ReLU')
    """
    name = type(module).__name__
    if not hasattr(module, "kernel_size"):
        return name
    sides = [side[0] if isinstance(side, tuple) else side for side in (module.kernel_size, module.stride)]
    text = f"{name} {sides[0]}x{sides[0]}" + (f"/{sides[1]}" if sides[1] != 1 else "")
    groups = getattr(module, "groups", 1)
    return text + (" depthwise" if is_depthwise(module) else f" groups {groups}" if groups > 1 else "")


def is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels
