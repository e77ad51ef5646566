"""GoogLeNet against Table 1 of its paper, and its auxiliary classifiers (section 5)."""

from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from nets import count, fit_one_batch, layer_sizes, on_meta
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.googlenet import Inception as TheirInception

from classic_cnn.alexnet import ResponseNorm
from classic_cnn.googlenet import INCEPTIONS, ConvReLU, GoogLeNet, Inception

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

# Szegedy et al., Table 1: output size and millions of multiply-adds of each module. 5a is printed with 54, but the
# widths of its row give 51.
TABLE_1 = {
    **{"3a": (256, 28, 128), "3b": (480, 28, 304)},
    **{"4a": (512, 14, 73), "4b": (512, 14, 88), "4c": (512, 14, 100), "4d": (528, 14, 119), "4e": (832, 14, 170)},
    **{"5a": (832, 7, 51), "5b": (1024, 7, 71)},
}


def test_published_net_has_the_modules_of_table_1() -> None:
    net, images = on_meta(partial(GoogLeNet.published, auxiliary=False))
    found: list[tuple[int, int, int]] = []
    modules = [module for module in net.modules() if isinstance(module, Inception)]
    for module in modules:
        module.register_forward_hook(lambda _module, _input, output: found.append(tuple(output.shape[1:])))
    with FlopCounterMode(display=False) as counter:
        net(images)
    names = [name for name, module in net.named_modules() if isinstance(module, Inception)]
    flops = counter.get_flop_counts()
    multiply_adds = [sum(flops[f"GoogLeNet.{name}"].values()) / 2e6 for name in names]
    assert list(INCEPTIONS) == list(TABLE_1)
    assert found == [(channels, side, side) for channels, side, _ in TABLE_1.values()]
    assert multiply_adds == pytest.approx([millions for _, _, millions in TABLE_1.values()], abs=0.7)


def test_published_net_has_the_stem_of_table_1() -> None:
    assert layer_sizes(*on_meta(GoogLeNet.published))[:5] == [(64, 112), (64, 56), (64, 56), (192, 56), (192, 28)]


def test_auxiliary_classifiers_have_the_parameters_of_section_5() -> None:
    """Each has a 1x1 convolution to 128 channels, 1024 hidden units that read 4x4 of them, and an output layer."""
    with_them, without = (count(on_meta(partial(GoogLeNet.published, auxiliary=on))[0]) for on in (True, False))
    assert with_them - without == (512 + 528) * 128 + 2 * (128 + (128 * 16 + 1) * 1024 + 1025 * 1000)


def test_published_net_has_5x5_convolutions_where_torchvision_has_3x3() -> None:
    with torch.device("meta"):
        ours = GoogLeNet.published(auxiliary=False)
        theirs = torchvision.models.GoogLeNet(aux_logits=False, init_weights=False)
    module = next(module for module in ours.modules() if isinstance(module, Inception))
    convolutions = [layer for layer in module.branch3.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size for layer in convolutions] == [(1, 1), (5, 5)]
    assert theirs.inception3a.branch3[1].conv.kernel_size == (3, 3)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in ours.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in theirs.modules())


def test_adds_three_tenths_of_each_auxiliary_loss() -> None:
    net = GoogLeNet().eval()  # no dropout, so that two passes agree
    logits: dict[nn.Module, Tensor] = {}
    for module in (*net.auxiliary, net.classifier):
        module.register_forward_hook(lambda module, _input, output: logits.update({module: output}))
    images, labels = torch.rand(4, 1, 28, 28) * 2 - 1, torch.arange(4)
    loss, scores = net.training_loss(images, labels)
    first, second, main = (F.cross_entropy(logits[module], labels) for module in (*net.auxiliary, net.classifier))
    torch.testing.assert_close(loss, main + 0.3 * (first + second))
    torch.testing.assert_close(scores, net(images))
    torch.testing.assert_close(net.auxiliary_losses, torch.stack([first, second]).detach())


def test_leaves_the_auxiliary_classifiers_out_of_its_predictions() -> None:
    net = GoogLeNet().eval()
    calls = []
    for module in net.auxiliary:
        module.register_forward_hook(lambda *_: calls.append(1))
    net(torch.zeros(2, 1, 28, 28))
    assert not calls


@pytest.mark.parametrize("auxiliary", [True, False])
def test_logs_each_auxiliary_loss(auxiliary: bool) -> None:
    trainer = fit_one_batch(GoogLeNet(auxiliary=auxiliary))
    logged = {name for name in trainer.callback_metrics if "auxiliary" in name}
    assert logged == ({"train/auxiliary_1_loss", "train/auxiliary_2_loss"} if auxiliary else set())


def test_reductions_more_than_halve_the_weights_of_module_3a_and_keep_its_shape() -> None:
    with torch.device("meta"):
        nets = [GoogLeNet.published(reductions=on, auxiliary=False) for on in (True, False)]
    with_them, without = (next(m for m in net.modules() if isinstance(m, Inception)) for net in nets)
    weights = [sum(p.numel() for p in module.parameters() if p.dim() > 1) for module in (with_them, without)]
    # Table 1's row 3a, which reads 192 channels: 64, 96 to 128, 16 to 32, 32
    assert weights[0] == 192 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32
    assert weights[1] == 192 * (64 + 9 * 128 + 25 * 32 + 32)
    assert with_them.out_channels == without.out_channels


@pytest.mark.parametrize("reductions", [True, False])
def test_net_with_and_without_reductions_classifies(reductions: bool) -> None:
    assert GoogLeNet(width=0.1, reductions=reductions)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_inception_module_is_torchvisions_with_a_5x5_convolution() -> None:
    row = INCEPTIONS["3a"]
    ours = Inception(192, row, batch_norm=True)
    theirs = TheirInception(192, *row)
    theirs.branch3[1].conv = nn.Conv2d(row[3], row[4], 5, padding=2, bias=False)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, 192, 7, 7)
    torch.testing.assert_close(ours(images), theirs(images))


def test_stem_normalizes_responses_behind_its_first_pooling_and_before_its_second() -> None:
    net: Any = on_meta(GoogLeNet.published)[0]
    stem = net.features[0][0]
    assert [type(m) for m in stem] == [
        *(ConvReLU, nn.MaxPool2d, ResponseNorm, ConvReLU, ConvReLU, ResponseNorm, nn.MaxPool2d)
    ]


def test_auxiliary_classifiers_average_5x5_pixels_at_a_stride_of_3() -> None:
    """Section 5, the first point of the list."""
    net: Any = on_meta(GoogLeNet.published)[0]
    for classifier in net.auxiliary:
        pool = classifier[0][0]
        assert isinstance(pool, nn.AvgPool2d)
        assert (pool.kernel_size, pool.stride) == (5, 3)
