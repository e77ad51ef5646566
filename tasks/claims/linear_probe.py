"""Linear classifiers on the layers of a trained net: M. Zeiler, R. Fergus, 2013, table 7."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classic_cnn.explain.deconvnet import ConvLayer, conv_layers, feature_maps
from datamodules.contract import Count
from datamodules.in_memory import InMemoryData
from rnn.esn import ridge_regression
from tasks.claims.claim import MeasuredRun
from tasks.claims.gan_measures import rank_correlation
from tasks.claims.views import tested_images
from tasks.runs_compare import Curve

BATCH = 500
SIDE = 4  # pixels of the pooled feature maps


def probe_layers(
    run: MeasuredRun, train: Count = 5000, test: Count = 5000, strengths: Sequence[float] = (1e-3, 1e-2, 1e-1)
) -> dict[str, float | Curve]:
    """`probe_correlation`: Spearman's rank correlation of a convolution's depth with the accuracy of a linear
    classifier on its feature maps; `probe_gain`: points by which the last one's error is lower than the first one's;
    `probe_error`: per cent of 5,000 test images that are wrong, by layer.

    The feature maps are averaged to 4x4 pixels, or left as they are where they have no more. The classifier is ridge
    regression onto one-hot labels of 5,000 training images, its strength the best for 2,000 of validation.

    Args:
        run: of a classifier with convolutions.
        train: the first so many training images.
        test: the first so many test images.
        strengths: of the ridge, as shares of the number of training images.

    Raises:
        ValueError: the net has fewer than two convolutions.
    """
    net, data = run.trained
    layers = conv_layers(net, data.transform(tested_images(data, 1)[0]))
    if len(layers) < 2:
        raise ValueError(f"probe_layers: a {type(net).__name__} has fewer than two convolutions")
    assert data.train_split is not None
    assert data.val_split is not None
    sets = [tuple(part[:train] for part in data.train_split), tuple(part[:2000] for part in data.val_split)]
    sets.append(tested_images(data, test))
    features = [layer_features(net, layers, data, images) for images, _ in sets]
    labels = [labels for _, labels in sets]
    errors: Curve = [
        (float(depth), probe_error([part[depth - 1] for part in features], labels, strengths))
        for depth in range(1, len(layers) + 1)
    ]
    accuracies: Curve = [(depth, -error) for depth, error in errors]
    return {
        "probe_correlation": rank_correlation([(depth, depth) for depth, _ in errors], accuracies),
        "probe_gain": errors[0][1] - errors[-1][1],
        "probe_error": errors,
    }


@torch.inference_mode()
def layer_features(net: nn.Module, layers: Sequence[ConvLayer], data: InMemoryData, images: Tensor) -> list[Tensor]:
    """The pooled feature maps of stored images, (N, C * side * side), of each layer."""
    batches = [
        [pooled(maps) for maps in feature_maps(net, layers, data.transform(part))] for part in images.split(BATCH)
    ]
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def pooled(maps: Tensor) -> Tensor:
    """Feature maps (N, C, H, W) averaged to at most 4x4 pixels, as rows."""
    return (F.adaptive_avg_pool2d(maps, SIDE) if maps.shape[-1] > SIDE else maps).flatten(1)


def probe_error(features: Sequence[Tensor], labels: Sequence[Tensor], strengths: Sequence[float]) -> float:
    """Per cent of the last set's rows that a linear classifier gets wrong.

    Args:
        features: of the training, validation and test images, (N, P) each.
        labels: of them, (N,) each.
        strengths: of the ridge, as shares of the number of training images; validation chooses one.
    """
    mean, deviation = features[0].mean(0), features[0].std(0).clamp_min(1e-6)
    rows = [F.pad((part - mean) / deviation, (0, 1), value=1.0).double() for part in features]
    targets = F.one_hot(labels[0], int(labels[0].max()) + 1).double()
    gram, cross = rows[0].T @ rows[0], rows[0].T @ targets
    readouts = [ridge_regression(gram, cross, strength * len(targets)) for strength in strengths]
    validation, test = (
        [float(((part @ readout.T).argmax(1) != wanted).double().mean()) for readout in readouts]
        for part, wanted in zip(rows[1:], labels[1:], strict=True)
    )
    return 100 * test[validation.index(min(validation))]
