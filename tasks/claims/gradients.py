"""Gradients of a net that has not been trained yet."""

import torch

from classic_cnn.classifier import ImageClassifier
from datamodules.contract import Count
from tasks.build import build_model
from tasks.claims.claim import MeasuredRun


def initial_gradient(run: MeasuredRun, batches: Count = 10) -> dict[str, float]:
    """`initial_gradient`: the norm of the gradient of the training loss with respect to the first layer's weights,
    before the first step; the mean over batches of training images.

    Args:
        run: of a classifier; its net is built anew.
        batches: the first so many.

    Raises:
        ValueError: the net is no classifier.
    """
    _, data = run.trained
    split = data.train_split
    assert split is not None
    torch.manual_seed(run.cfg.seed)
    net = build_model(run.cfg.model, data).train()
    if not isinstance(net, ImageClassifier):
        raise ValueError(f"initial_gradient: {type(net).__name__} is no classifier")
    weight = next(parameter for parameter in net.parameters() if parameter.dim() > 1)
    norms = []
    pairs = zip(split.images.split(data.batch_size), split.labels.split(data.batch_size), strict=True)
    for (images, labels), _ in zip(pairs, range(batches), strict=False):
        loss, _ = net.training_loss(data.transform(images), labels)
        [gradient] = torch.autograd.grad(loss, weight)
        norms.append(gradient.norm())
    return {"initial_gradient": float(torch.stack(norms).mean())}
