"""Which pixels decide: occlusion (Zeiler and Fergus 2013, section 4.2), saliency, guided backpropagation, Grad-CAM."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from captum.attr import GuidedBackprop, LayerAttribution, LayerGradCam, Saliency
from torch import Tensor, nn

from classic_cnn.explain.deconvnet import Layer

BATCH = 256  # occluded images at once


def occlude(image: Tensor, side: int, stride: int, shade: float) -> Tensor:
    """Copies of an image, uint8 (1, H, W), each with a square over another position: (R * C, 1, H, W).

    A square has the middle at every `stride`-th pixel and ends at the image's border; `shade` is in [0, 1].

    >>> occlude(torch.zeros(1, 2, 2, dtype=torch.uint8), side=1, stride=1, shade=1.0)[2]
    tensor([[[  0,   0],
             [255,   0]]], dtype=torch.uint8)
    """
    height, width = image.shape[1:]
    corners = [(row, column) for row in range(0, height, stride) for column in range(0, width, stride)]
    copies = image.repeat(len(corners), 1, 1, 1)
    for copy, (row, column) in zip(copies, corners, strict=True):
        top, left = row - (side - 1) // 2, column - (side - 1) // 2
        copy[:, max(0, top) : top + side, max(0, left) : left + side] = round(255 * shade)
    return copies


@torch.no_grad()
def occlusion(
    predict: Callable[[Tensor], Tensor], image: Tensor, side: int = 8, stride: int = 1, shade: float = 0.5
) -> Tensor:
    """The class probabilities for each position of an occluding square, (R, C, K).

    Args:
        predict: from images, uint8 (N, 1, H, W), to class probabilities, (N, K).
        image: uint8, (1, H, W).
        side: of the square, in pixels.
        stride: pixels from one position to the next.
        shade: of the square, from 0 for the background to 1 for ink.
    """
    probabilities = torch.cat([predict(part) for part in occlude(image, side, stride, shade).split(BATCH)])
    rows = -(-image.shape[1] // stride)
    return probabilities.view(rows, -1, probabilities.shape[1])


class Attributions(NamedTuple):
    """How much each pixel counts for a class, (N, S, S) each; without convolutions there is no Grad-CAM."""

    saliency: Tensor  # the size of the gradient (Simonyan et al. 2013)
    guided: Tensor  # signed (Springenberg et al. 2014)
    grad_cam: Tensor | None  # 0 or above (Selvaraju et al. 2017)


def attribute(net: nn.Module, last: Layer | None, images: Tensor, classes: Tensor) -> Attributions:
    """Explains the score of one class for each image, (N, C, S, S) and (N,); `last` is the last convolution."""
    recurrent = torch.backends.cudnn.flags(enabled=False)  # cuDNN's recurrent layers have no gradients in eval()
    with warnings.catch_warnings(action="ignore"), recurrent:  # captum's, that it sets hooks and asks for gradients
        saliency = Saliency(net).attribute(images.clone(), classes).amax(1)
        guided = GuidedBackprop(net).attribute(images.clone(), classes).mean(1)
        if last is None:
            return Attributions(saliency.cpu(), guided.detach().cpu(), None)
        coarse = LayerGradCam(net, last.output).attribute(images.clone(), classes, relu_attributions=True)
        assert isinstance(coarse, Tensor)
        fine = LayerAttribution.interpolate(coarse.detach(), tuple(images.shape[-2:]), "bilinear")
    assert isinstance(fine, Tensor)
    return Attributions(saliency.cpu(), guided.detach().cpu(), fine.mean(1).cpu())
