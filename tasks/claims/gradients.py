"""Gradients of a net that has not been trained yet."""

import statistics
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from classic_cnn.googlenet import GoogLeNet
from datamodules.contract import Count
from tasks.build import build_model
from tasks.claims.claim import MeasuredRun


def initial_gradient(run: MeasuredRun, draws: Count = 10) -> dict[str, float]:
    """`initial_gradient`: the norm of the gradient of the training loss with respect to the first layer's weights,
    before the first step; the mean over ten draws of initial weights, with a batch of training images each.

    The draws are those of the run's seed whether the net has auxiliary classifiers or not: without them, they are made
    and left out, so that weights, images and dropout are the same.

    Args:
        run: of a GoogLeNet, which is built anew.
        draws: how many.

    Raises:
        ValueError: the net is none.
    """
    _, data = run.trained
    split = data.train_split
    assert split is not None
    whole: Any = OmegaConf.merge(run.cfg.model, {"auxiliary": True})
    norms = []
    for draw in range(draws):
        seed = run.cfg.seed + 1000 * draw
        index = torch.randint(len(split.labels), (data.batch_size,), generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        net = build_model(whole, data).train()
        if not isinstance(net, GoogLeNet):
            raise ValueError(f"initial_gradient: {type(net).__name__} is no GoogLeNet")
        if not run.cfg.model.auxiliary:
            net.auxiliary = nn.ModuleList()
        loss, _ = net.training_loss(data.transform(split.images[index]), split.labels[index])
        weight = next(parameter for parameter in net.parameters() if parameter.dim() > 1)
        [gradient] = torch.autograd.grad(loss, weight)
        norms.append(gradient.norm().item())
    return {"initial_gradient": statistics.fmean(norms)}
