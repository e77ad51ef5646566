"""A new training starts from the layers of another one: between equal nets, other nets, and by init_from=."""

import copy
from pathlib import Path

import pytest
import torch
from command_line import only_run, run, run_well
from torch import Tensor, nn

from classic_cnn.alexnet import AlexNet
from classic_cnn.lenet import LeNet5
from classic_cnn.vgg import VGG


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


def test_equal_nets_start_from_all_layers() -> None:
    first, second = VGG(depth=11, width=0.1), VGG(depth=11, width=0.1)
    second.warm_start(first.state_dict())
    assert not changed(second, first.state_dict())


def test_layer_of_another_shape_is_not_taken_over_in_parts() -> None:
    few, many = AlexNet(num_classes=5), AlexNet(num_classes=5, in_channels=3)
    before = copy.deepcopy(many.state_dict())
    taken = many.warm_start(few.state_dict())
    assert "features.0" not in taken
    assert "features.0.bias" not in changed(many, before)
    assert {"features.4.weight", "classifier.7.weight"} <= changed(many, before)


def test_nets_without_a_common_layer_are_refused() -> None:
    with pytest.raises(ValueError, match="VGG"):
        VGG(depth=11, width=0.1).warm_start(LeNet5().state_dict())


@pytest.mark.extended
def test_training_starts_from_another_run_and_does_without_it_afterwards() -> None:
    small = (
        *("model=vgg", "model.width=0.05", "model/lr_scheduler=none", "model.optimizer.lr=1e-9"),
        *("data=mnist_5k", "data.train_images_per_class=1", "trainer.limit_val_batches=1", "trainer.max_epochs=1"),
        *("trainer.accelerator=cpu", "~callbacks.plots"),
    )
    run_well(*small, "model.depth=11")
    shallow = only_run()
    start = shallow / "checkpoints" / "last.ckpt"
    outcome = run_well(*small, "model.depth=13", f"init_from={start}")
    [taken] = [line for line in outcome.out.splitlines() if line.startswith("taken over")]
    [random] = [line for line in outcome.out.splitlines() if line.startswith("left random")]
    assert "features.conv3_2" in taken
    assert "features.conv4_1" in random  # section 3.1: the first four convolutions alone
    (deep,) = (folder for folder in shallow.parent.iterdir() if folder.resolve() != shallow)
    weights = [
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (shallow, deep)
    ]
    torch.testing.assert_close(weights[0]["classifier.1.weight"], weights[1]["classifier.1.weight"], atol=1e-4, rtol=0)
    start.unlink()
    run_well("task=test", f"ckpt_path={deep}/checkpoints/last.ckpt")
    refused = run(*small, f"init_from={start}")
    assert refused.status == 2
    assert "init_from" in refused.err
    assert str(Path(start).name) in refused.err
