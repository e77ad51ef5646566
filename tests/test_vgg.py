"""VGG against torchvision's, and its warm start from a shallower net (Simonyan and Zisserman 2014, section 3.1)."""

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn

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


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_deep_vgg_starts_from_four_convolutions_and_the_large_layers_of_a_shallow_one() -> None:
    shallow, deep = VGG(depth=11, width=0.1), VGG(depth=13, width=0.1)
    for tensor in shallow.state_dict().values():
        tensor.add_(1)
    before = copy.deepcopy(deep.state_dict())
    taken = deep.warm_start(shallow.state_dict())
    places = ("1_1", "2_1", "3_1", "3_2")
    convolutions = [f"features.{kind}{place}" for place in places for kind in ("conv", "bn")]
    assert taken == [*convolutions, "classifier.1", "classifier.4", "classifier.7"]
    assert {name.rpartition(".")[0] for name in changed(deep, before)} == set(taken)
    own, source = deep.state_dict(), shallow.state_dict()
    assert all(torch.equal(own[name], source[name]) for name in changed(deep, before))


def test_one_by_one_convolutions_belong_to_16_layers() -> None:
    with pytest.raises(ValueError, match="one_by_one"):
        VGG(depth=11, one_by_one=True)
