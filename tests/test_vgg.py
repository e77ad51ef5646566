"""VGG against torchvision's, and its configuration C."""

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from classic_cnn.vgg import VGG


@pytest.mark.parametrize("depth", [11, 16, 19])
def test_vgg_computes_what_torchvisions_does(depth: int) -> None:
    theirs = getattr(torchvision.models, f"vgg{depth}")(weights=None, init_weights=False, num_classes=10).eval()
    with torch.device("meta"):
        ours = VGG.published(depth=depth, num_classes=10).eval()
    weights = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(weights), assign=True)  # the same tensors, in the same order
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images))


def test_vgg_configuration_c_ends_its_last_stages_with_1x1() -> None:
    with torch.device("meta"):
        features = VGG.published(depth=16, one_by_one=True).features
    kernel_sizes = [module.kernel_size[0] for module in features if isinstance(module, nn.Conv2d)]
    assert kernel_sizes == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]


def test_vgg_with_a_5x5_convolution_for_each_pair_has_the_weights_of_section_2_3() -> None:
    with torch.device("meta"):
        pairs, single = VGG(depth=13, batch_norm=False), VGG(depth=13, batch_norm=False, five_by_five=True)
    weights = [
        {name: module.weight.numel() for name, module in net.features.named_modules() if isinstance(module, nn.Conv2d)}
        for net in (pairs, single)
    ]
    assert weights[0]["conv5_1"] + weights[0]["conv5_2"] == 18 * 256**2
    assert weights[1] == {f"conv{stage}_1": weights[1][f"conv{stage}_1"] for stage in range(1, 6)}
    assert weights[1]["conv5_1"] == 25 * 256**2
    assert pairs.shape_after(pairs.features) == single.shape_after(single.features)


@pytest.mark.parametrize("variant", ["one_by_one", "five_by_five"])
def test_a_variant_belongs_to_its_depth(variant: str) -> None:
    arguments: dict[str, Any] = {variant: True}
    with pytest.raises(ValueError, match=variant):
        VGG(depth=11, **arguments)
