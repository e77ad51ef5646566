"""Which pixels decide: saliency, guided backpropagation and Grad-CAM, by captum."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from classic_cnn.explain.deconvnet import ConvLayer, last_maps


class Attributions(NamedTuple):
    """How much each pixel counts for a class, (N, S, S) each; without feature maps there is no Grad-CAM."""

    saliency: Tensor  # the size of the gradient (Simonyan et al. 2013)
    guided: Tensor  # signed, the mean over the channels (Springenberg et al. 2014)
    grad_cam: Tensor | None  # 0 or above (Selvaraju et al. 2017)


def has_relu(net: nn.Module) -> bool:
    """Whether guided backpropagation differs from the gradient: it changes what passes ReLUs."""
    return any(isinstance(module, nn.ReLU) for module in net.modules())


def attribute(net: nn.Module, images: Tensor, classes: Tensor) -> Attributions:
    """Explains the logit of one class for each image, (N, C, S, S) and (N,)."""
    from captum.attr import GuidedBackprop, LayerAttribution, LayerGradCam, Saliency

    maps = last_maps(net, images[:1])
    without_cudnn = torch.backends.cudnn.flags(enabled=False)  # its recurrent layers have no gradients in eval()
    with warnings.catch_warnings(action="ignore"), without_cudnn:  # captum warns that it sets hooks
        saliency = Saliency(net).attribute(images.clone(), classes).amax(1)
        guided = GuidedBackprop(net).attribute(images.clone(), classes).mean(1)
        if maps is None:
            return Attributions(saliency.cpu(), guided.detach().cpu(), None)
        coarse = LayerGradCam(net, maps).attribute(images.clone(), classes, relu_attributions=True)
        assert isinstance(coarse, Tensor)
        fine = LayerAttribution.interpolate(coarse.detach(), tuple(images.shape[-2:]), "bilinear")
    assert isinstance(fine, Tensor)
    return Attributions(saliency.cpu(), guided.detach().cpu(), fine.mean(1).cpu())


def guided_backpropagation(net: nn.Module, layer: ConvLayer, images: Tensor, channel_indices: Tensor) -> Tensor:
    """What in the images made one channel of a layer respond most, for any net (Springenberg et al. 2014).

    Args:
        images: (N, C, S, S).
        channel_indices: a channel of the layer for each image, (N,).

    Returns:
        (N, C, S, S).
    """
    from captum.attr import NeuronGuidedBackprop

    def strongest(activations: Tensor) -> Tensor:
        image_indices = torch.arange(len(channel_indices), device=channel_indices.device)
        return activations[image_indices, channel_indices].flatten(1).amax(1)

    with warnings.catch_warnings(action="ignore"):  # captum warns that it sets hooks
        return NeuronGuidedBackprop(net, layer.output).attribute(images.clone(), strongest).detach()
