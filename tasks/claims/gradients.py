"""Gradients of a net that has not been trained yet."""

import statistics

import torch

from classic_cnn.classifier import ImageClassifier
from datamodules.contract import Count
from tasks.build import build_model
from tasks.claims.claim import MeasuredRun


def initial_gradient(run: MeasuredRun, draws: Count = 10) -> dict[str, float]:
    """`initial_gradient`: the norm of the gradient of the training loss with respect to the first layer's weights,
    before the first step; the mean over ten draws of initial weights, with a batch of training images each.

    Args:
        run: of a classifier; its net is built anew.
        draws: how many.

    Raises:
        ValueError: the net is no classifier.
    """
    _, data = run.trained
    split = data.train_split
    assert split is not None
    norms = []
    for draw in range(draws):
        torch.manual_seed(run.cfg.seed + 1000 * draw)
        net = build_model(run.cfg.model, data).train()
        if not isinstance(net, ImageClassifier):
            raise ValueError(f"initial_gradient: {type(net).__name__} is no classifier")
        index = torch.randint(len(split.labels), (data.batch_size,))
        loss, _ = net.training_loss(data.transform(split.images[index]), split.labels[index])
        weight = next(parameter for parameter in net.parameters() if parameter.dim() > 1)
        [gradient] = torch.autograd.grad(loss, weight)
        norms.append(gradient.norm().item())
    return {"initial_gradient": statistics.fmean(norms)}
