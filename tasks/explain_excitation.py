"""What excites the feature maps of a net: the images that they respond to most, and their projections to pixels."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor, nn

from classic_cnn.explain import plots
from classic_cnn.explain.attribution import guided_backpropagation, has_relu
from classic_cnn.explain.deconvnet import ConvLayer, Responses, feature_maps, is_chain, project
from classic_cnn.explain.receptive_field import receptive_field
from tasks.explain_page import DECONVNET, GUIDED, Picture


class ExplainedNet(NamedTuple):
    """A net with all that its explanation needs."""

    model: LightningModule
    layers: list[ConvLayer]  # the convolutions, all of them
    transform: Callable[[Tensor], Tensor]  # from stored pixels to what the net reads, on its device
    class_names: tuple[str, ...]

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """From uint8 images (N, C, H, W) to class probabilities (N, K) on the CPU."""
        return self.model(self.transform(images)).softmax(1).cpu()


def excitation(
    count: int, net: ExplainedNet, layer: ConvLayer, responses: Responses, images: Tensor, labels: Tensor, number: int
) -> Picture:
    """The `count` strongest feature maps of a layer, each with its nine images and their projections to pixels."""
    maps, top = responses.strongest(count)  # (M,), (M, 9)
    chain = features_up_to(net.model, layer)
    field = None if chain is None else receptive_field(chain)
    width = feature_maps(net.model, [layer], net.transform(images[:1]))[0].shape[-1]
    projections, patches = [], []
    for feature, indices in zip(maps.tolist(), top, strict=True):
        inputs = net.transform(images[indices])
        wanted = torch.full((len(indices),), feature, device=inputs.device)
        back = (
            guided_backpropagation(net.model, layer, inputs, wanted)
            if chain is None
            else project(chain, inputs, wanted)
        )
        positions = responses.positions[indices, feature]
        rows, columns = positions // width, positions % width
        back, inputs = back.cpu(), inputs.cpu()
        projections.append(back if field is None else field.crop(back, rows, columns, 0.0))
        patches.append(inputs if field is None else field.crop(inputs, rows, columns, -1.0))
    classes = [[net.class_names[label] for label in labels[indices].tolist()] for indices in top]
    side = field.size if field is not None and field.size < inputs.shape[-1] else None
    seen = f"windows of {side}x{side} pixels" if side else "whole images"
    title = f"What excites convolution {number} ({layer.name}), {seen}"
    figure = plots.excitation_figure(title, maps, projections, patches, classes)
    method = "guided backpropagation" if has_relu(net.model) else "the gradient"
    text = (GUIDED if chain is None else DECONVNET).format(images=len(images), method=method)
    return Picture(f"excites_{number:02}_{layer.name}", title, figure, text)


def features_up_to(model: nn.Module, layer: ConvLayer) -> nn.Sequential | None:
    """The chain of modules from the pixels to the output of a layer; None where the net has branches."""
    features = getattr(model, "features", None)
    if not is_chain(features):
        return None
    assert isinstance(features, nn.Sequential)
    return features[: list(features).index(layer.output) + 1]
