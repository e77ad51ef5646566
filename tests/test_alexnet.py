"""AlexNet's groups, initialization and local response normalization, as its paper has them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import on_meta
from torch import nn

from classic_cnn.alexnet import AlexNet, RawPixelConv2d, ResponseNorm
from classic_cnn.zfnet import ZFNet


def test_published_net_splits_the_convolutions_of_its_two_gpus() -> None:
    with torch.device("meta"):
        features = AlexNet.published().features
    assert [module.groups for module in features if isinstance(module, nn.Conv2d)] == [1, 2, 1, 2, 2]  # Figure 2


def test_published_net_starts_from_the_weights_and_biases_of_section_5() -> None:
    net = AlexNet.published(num_classes=10)
    weights = [parameter for parameter in net.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in net.parameters() if parameter.dim() == 1]
    assert all(weight.std().item() == pytest.approx(0.01, rel=0.02) for weight in weights)
    assert [bias.unique().tolist() for bias in biases] == [[0], [1], [0], [1], [1], [1], [1], [0]]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 4, 48])
def test_response_norm_agrees_with_torch_in_values_and_gradients(
    channels: int, memory_format: torch.memory_format
) -> None:
    activations = 30 * torch.randn(3, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(activations.shape, generator=torch.Generator().manual_seed(1))
    results = []
    for norm in (ResponseNorm(channels), nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2)):
        leaf = activations.clone().to(memory_format=memory_format).requires_grad_()
        output = norm(leaf)
        output.backward(upstream)
        results.append((output.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_response_norm_is_exact_to_bfloat16_under_autocast() -> None:
    activations = (30 * torch.randn(3, 48, 5, 5, generator=torch.Generator().manual_seed(0))).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output = ResponseNorm(48)(activations)
    exact = nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2)(activations.double())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), exact, rtol=2**-8, atol=0)  # half a unit in the last place


def test_what_the_paper_brought_can_be_left_out() -> None:
    def kinds(**changes: Any) -> list[type[nn.Module]]:
        return [type(module) for module in AlexNet(**changes).modules()]

    assert kinds(response_norm=False).count(ResponseNorm) == kinds().count(ResponseNorm) - 2 == 0
    assert kinds(activation="tanh").count(nn.Tanh) == kinds().count(nn.ReLU) == 7
    windows = [m.kernel_size for m in AlexNet(overlapping_pooling=False).features if isinstance(m, nn.MaxPool2d)]
    assert windows == [2, 2]
    convs = [m.out_channels for m in AlexNet(width=0.5).features if isinstance(m, nn.Conv2d)]
    assert convs == [24, 64, 96, 96, 64]
    assert [m.groups for m in AlexNet(groups=2).features if isinstance(m, nn.Conv2d)] == [1, 2, 1, 2, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0.5},
        {"activation": "tanh"},
        {"response_norm": False},
        {"overlapping_pooling": False},
        {"groups": 2},
    ],
)
def test_layout_of_the_paper_is_not_varied(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="layout=two_gpus"):
        AlexNet.published(**changes)


@pytest.mark.parametrize("net", [AlexNet.published, ZFNet.published])
def test_published_nets_normalize_the_responses_of_raw_pixels(net: Callable[..., AlexNet | ZFNet]) -> None:
    """On pixels in [-1, 1] the paper's constants would make 2^-0.75 = 0.595 of every activation, and nothing else."""
    model = net(num_classes=10)
    images = torch.rand(1, 3, model.image_size, model.image_size) * 2 - 1
    norm = next(index for index, module in enumerate(model.features) if isinstance(module, ResponseNorm))
    with torch.no_grad():
        activations = model.features[:norm](images)
        factors = (model.features[norm](activations) / activations)[activations > 0]
    assert factors.min() < 0.55


def test_responses_are_normalized_before_the_pooling_in_alexnet_and_behind_it_in_zfnet() -> None:
    """Krizhevsky et al., section 3.5: pooling follows the normalization; Zeiler & Fergus, Figure 3: it precedes it."""
    features: list[Any] = [on_meta(make)[0].features for make in (AlexNet.published, ZFNet.published)]
    alexnet, zfnet = features
    start = [RawPixelConv2d, nn.ReLU]
    assert [type(m) for m in alexnet[:8]] == [
        *(*start, ResponseNorm, nn.MaxPool2d, nn.Conv2d, nn.ReLU, ResponseNorm, nn.MaxPool2d)
    ]
    assert [type(m) for m in zfnet[:8]] == [
        *(*start, nn.MaxPool2d, ResponseNorm, nn.Conv2d, nn.ReLU, nn.MaxPool2d, ResponseNorm)
    ]
