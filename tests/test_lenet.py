"""LeNet-5 against its paper: LeCun et al. 1998, section II.B, Table I, eq. 7 to 9."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classic_cnn.lenet import (
    C3_READS,
    BitmapDistance,
    LeNet5,
    ScaledTanh,
    SparseConvolution,
    Subsampling,
    digit_bitmaps,
)

# Table I: one column per feature map of C3, one row per feature map of S2.
TABLE_I = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""
READS = torch.tensor([[cell == "X" for cell in row.split()] for row in TABLE_I.strip().split("\n")]).T  # (16, 6)

LAYERS = ("C1", "S2", "C3", "S4", "C5", "F6", "output")
PARAMETERS = (156, 12, 1_516, 32, 48_120, 10_164, 0)  # trainable; the output's 840 are fixed
CONNECTIONS = (122_304, 5_880, 151_600, 2_000, 48_120, 10_164, 840)
SHAPES = ((6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,), (10,))


@pytest.fixture
def published() -> LeNet5:
    return LeNet5.published()


def layers(net: LeNet5) -> dict[str, nn.Module]:
    """The layers that the paper names, in its order."""
    kinds = nn.Conv2d | nn.Linear | Subsampling | SparseConvolution | BitmapDistance
    found = [module for module in net.modules() if isinstance(module, kinds)]
    return dict(zip(LAYERS, found, strict=True))


def output_shapes(net: LeNet5) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in layers(net).items():
        layer.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: tuple(output.shape[1:])}))
    net(torch.zeros(1, 1, 32, 32))
    return shapes


def inputs_of_units(layer: nn.Module) -> list[int]:
    """How many connections, with the bias, a unit of each feature map of a layer has."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return [layer.weight[0].numel() + 1] * len(layer.weight)
    if isinstance(layer, SparseConvolution):
        return [len(sources) * 25 + 1 for sources in C3_READS]
    if isinstance(layer, Subsampling):
        return [2 * 2 + 1] * len(layer.bias)
    assert isinstance(layer, BitmapDistance)
    return [84] * len(layer.bitmaps)


def test_trainable_parameters_are_60_000(published: LeNet5) -> None:
    counts = [sum(p.numel() for p in layer.parameters() if p.requires_grad) for layer in layers(published).values()]
    assert counts == list(PARAMETERS)
    assert sum(p.numel() for p in published.parameters()) == sum(PARAMETERS) == 60_000


def test_layers_have_the_sizes_of_figure_2(published: LeNet5) -> None:
    assert output_shapes(published) == dict(zip(LAYERS, SHAPES, strict=True))


def test_connections_are_340_908(published: LeNet5) -> None:
    shapes = output_shapes(published)
    counts = [math.prod(shapes[name][1:]) * sum(inputs_of_units(layer)) for name, layer in layers(published).items()]
    assert counts == list(CONNECTIONS)
    assert sum(counts) == 340_908


def test_c3_reads_what_table_i_says(published: LeNet5) -> None:
    assert [[source in sources for source in range(6)] for sources in C3_READS] == READS.tolist()
    assert READS.sum(1).tolist() == [3] * 6 + [4] * 9 + [6]
    assert READS.sum(0).tolist() == [10] * 6
    assert [len(sources) for sources in C3_READS] == READS.sum(1).tolist()


def test_sparse_convolution_equals_a_masked_dense_one(published: LeNet5) -> None:
    sparse = layers(published)["C3"]
    assert isinstance(sparse, SparseConvolution)
    dense = nn.Conv2d(6, 16, 5)
    weights = iter(sparse.weight)
    with torch.no_grad():
        dense.weight.mul_(0)
        for target, row in enumerate(READS):
            for source in torch.nonzero(row).flatten():
                dense.weight[target, source] = next(weights)
        dense.bias = sparse.bias
    feature_maps = torch.randn(3, 6, 14, 14)
    assert next(weights, None) is None
    torch.testing.assert_close(sparse(feature_maps), dense(feature_maps))


def test_c3_depends_only_on_the_feature_maps_that_it_reads(published: LeNet5) -> None:
    sparse = layers(published)["C3"]
    for source in range(6):
        inputs = torch.zeros(1, 6, 14, 14, requires_grad=True)
        gradients = [torch.autograd.grad(channel.sum(), inputs, retain_graph=True)[0] for channel in sparse(inputs)[0]]
        reads = torch.stack([gradient[0, source].any() for gradient in gradients])
        assert torch.equal(reads, READS[:, source])


def test_subsampling_sums_four_pixels_times_a_coefficient_plus_a_bias() -> None:
    layer = Subsampling(2)
    with torch.no_grad():
        layer.coefficient.copy_(torch.tensor([0.5, -1.0]).view(2, 1, 1))
        layer.bias.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1))
    feature_maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]])
    assert layer(feature_maps).flatten().tolist() == [0.5 * 10 + 1, -1.0 * 26 + 2]


def test_scaled_tanh_maps_one_to_one() -> None:
    activations = torch.linspace(-3, 3, 61)
    torch.testing.assert_close(ScaledTanh()(activations), 1.7159 * torch.tanh(2 * activations / 3))
    assert ScaledTanh()(torch.tensor([-1.0, 1.0])).tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)


@pytest.mark.parametrize(("name", "fan_in"), [("C1", 25), ("S2", 4), ("S4", 4), ("C5", 400), ("F6", 120)])
def test_weights_are_drawn_within_2_4_over_the_fan_in(published: LeNet5, name: str, fan_in: int) -> None:
    values = torch.cat([parameter.detach().flatten() for parameter in layers(published)[name].parameters()])
    assert 0.5 < values.abs().max() * fan_in / 2.4 <= 1


def test_weights_of_c3_are_drawn_by_the_fan_in_of_their_map(published: LeNet5) -> None:
    sparse = layers(published)["C3"]
    assert isinstance(sparse, SparseConvolution)
    kernels_per_channel = sparse.weight.detach().split([len(sources) for sources in C3_READS])
    for sources, kernels, bias in zip(C3_READS, kernels_per_channel, sparse.bias.detach(), strict=True):
        bound = 2.4 / (25 * len(sources))
        assert 0.9 * bound < kernels.abs().max() <= bound
        assert bias.abs() <= bound


def test_images_are_read_with_ink_at_1_175_and_paper_at_minus_0_1(published: LeNet5) -> None:
    seen: list[Tensor] = []
    published.features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    published(torch.stack([torch.full((1, 32, 32), -1.0), torch.full((1, 32, 32), 1.0)]))
    assert seen[0][:, 0, 0, 0].tolist() == pytest.approx([-0.1, 1.175])


def test_bitmaps_are_ten_different_drawings_of_7_by_12() -> None:
    bitmaps = digit_bitmaps()
    assert bitmaps.shape == (10, 7 * 12)
    assert len(bitmaps.unique(dim=0)) == 10
    three = bitmaps[3].view(12, 7)
    assert (three[0] > 0).tolist() == [pixel == "#" for pixel in ".#####."]  # the rows of Figure 3's 3
    assert (three[-1] > 0).tolist() == [pixel == "#" for pixel in ".#####."]


def test_output_is_the_distance_of_equation_7(published: LeNet5) -> None:
    activations = torch.randn(5, 84)
    expected = [[-np.sum((x - w) ** 2) for w in digit_bitmaps().numpy()] for x in activations.numpy()]
    torch.testing.assert_close(layers(published)["output"](activations), torch.tensor(np.array(expected)))


def test_loss_is_the_map_criterion_of_equation_9(published: LeNet5) -> None:
    images, labels = torch.randn(6, 1, 32, 32).clamp(-1, 1), torch.tensor([3, 1, 4, 1, 5, 9])
    with torch.no_grad():
        logits = published(images)
        logits = logits / logits.abs().max() * 5  # so that the other classes, and the rubbish class, weigh in
    penalties = -logits.double().numpy()  # y_i
    j = 1.0
    rival = np.log(np.exp(-j) + np.exp(-penalties).sum(1))
    expected = np.mean(penalties[np.arange(6), labels.numpy()] + rival)
    assert published.loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    assert expected > F.cross_entropy(logits, labels).item() + 0.01


def test_linear_output_can_replace_the_bitmaps() -> None:
    net = LeNet5.published(bitmap_output=False)
    images, labels = torch.zeros(4, 1, 32, 32), torch.arange(4)
    assert sum(p.numel() for p in net.parameters()) == 60_000 + 850
    torch.testing.assert_close(net.loss(net(images), labels), F.cross_entropy(net(images), labels))


def test_modern_form_has_61_706_parameters() -> None:
    net = LeNet5()
    counts = [sum(p.numel() for p in module.parameters()) for module in net.modules() if not list(module.children())]
    assert [count for count in counts if count] == [156, 2_416, 48_120, 10_164, 850]
    assert sum(p.numel() for p in net.parameters()) == 61_706
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("layout", ["modern", "original"])
def test_other_classes_channels_and_sizes_just_work(layout: Any) -> None:
    net = LeNet5(layout=layout, in_channels=3, num_classes=26, image_size=40)
    assert net(torch.zeros(2, 3, 40, 40)).shape == (2, 26)


def test_bitmaps_are_those_of_the_ten_digits_only() -> None:
    with pytest.raises(ValueError, match=r"num_classes.*26"):
        LeNet5.published(num_classes=26)
    assert LeNet5.published(num_classes=26, bitmap_output=False)(torch.zeros(1, 1, 32, 32)).shape == (1, 26)


def test_modern_form_takes_other_units_and_average_pooling() -> None:
    kinds = [type(module) for module in LeNet5(activation="sigmoid", pooling="average").modules()]
    assert (kinds.count(nn.Sigmoid), kinds.count(nn.AvgPool2d)) == (4, 2)
    assert not {nn.ReLU, nn.MaxPool2d} & {*kinds}


@pytest.mark.parametrize("changes", [{"activation": "tanh"}, {"pooling": "average"}])
def test_original_layers_are_not_varied(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="layout=original"):
        LeNet5.published(**changes)


def test_every_layer_reads_squashed_activations() -> None:
    """Section II.B: the result of each layer up to F6, also of a subsampling, is passed through the sigmoid."""
    net = LeNet5.published()
    with torch.no_grad():
        for parameter in net.features.parameters():
            parameter.mul_(1000)
    largest: list[float] = []
    for layer in [*net.features, *net.classifier]:
        if not isinstance(layer, ScaledTanh | nn.Flatten):
            layer.register_forward_pre_hook(lambda _, inputs: largest.append(inputs[0].abs().max().item()))
    net(torch.rand(4, 1, 32, 32) * 2 - 1)
    assert len(largest) == 7
    assert max(largest) == pytest.approx(1.7159, abs=1e-4)
