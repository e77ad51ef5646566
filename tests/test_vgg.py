"""VGG against torchvision's, and its configuration C."""

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


def test_one_by_one_convolutions_belong_to_16_layers() -> None:
    with pytest.raises(ValueError, match="one_by_one"):
        VGG(depth=11, one_by_one=True)
