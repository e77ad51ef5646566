"""The measures of classifiers that claims share, on nets and images whose outcome is known."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from conftest import compose
from nets import fit_one_batch
from torch import Tensor, nn

from classic_cnn.alexnet import AlexNet
from classic_cnn.googlenet import GoogLeNet
from classic_cnn.resnet import ResNet
from datamodules.images import ImageData
from datamodules.in_memory import Split
from tasks.claims import cost_plot, filters, gradients, layer_order, lesion, linear_probe, measures, occlusion, views
from tasks.claims.claim import MeasuredRun
from tasks.claims.middle_layer import Form, MiddleLayerNet


class KnownData(ImageData):
    """Stored images and labels, the same ones to train and to test."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.train_split = self.val_split = self.test_split = Split(images, labels)


def run_of(net: nn.Module, data: Any, *overrides: str) -> MeasuredRun:
    run = MeasuredRun(compose(*overrides), Path("unused"), {})
    vars(run)["trained"] = (net.eval(), data)  # which it would read from a checkpoint
    return run


class LeftPixel(nn.Module):
    """Class 1 for an image whose middle row has ink at the left border, class 0 for all others."""

    def forward(self, images: Tensor) -> Tensor:
        ink = images[:, 0, 14, 0]
        return torch.stack([-ink, ink], 1)


def dotted(column: int, count: int = 4) -> Tensor:
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 14, column] = 255
    return images


def test_views_are_averaged_and_compared_with_the_image_itself() -> None:
    images = torch.cat([dotted(0), dotted(14)])
    run = run_of(LeftPixel(), KnownData(images, torch.tensor([1] * 4 + [0] * 4)))
    assert views.error_of_views(run, "flip") == {"error_of_views": 50, "gain_of_views": -50}  # one view of two has ink
    assert views.error_of_views(run, "multi_scale", images=4)["error_of_views"] == 100  # as in one of three


class Brightness(nn.Module):
    """Class 1 for images with more than 100 pixels of ink."""

    def forward(self, images: Tensor) -> Tensor:
        ink = (images > 0).flatten(1).sum(1) - 100.0
        return torch.stack([-ink, ink], 1)


def test_rescaled_error_is_the_mean_over_scales() -> None:
    images = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 8:20, 8:20] = 255  # 144 pixels
    run = run_of(Brightness(), KnownData(images, torch.ones(3, dtype=torch.long)))
    found = views.rescaled_error(run, scales=(0.5, 1.0, 1.25))
    assert found["error_by_scale"] == [(0.5, 100), (1.0, 0), (1.25, 0)]
    assert found["rescaled_error"] == pytest.approx(100 / 3)
    assert torch.equal(views.rescale(images, 1.0), images)


@pytest.mark.extended
def test_initial_gradient_is_the_mean_over_draws_of_weights(mnist_5k: ImageData) -> None:
    run = run_of(nn.Identity(), mnist_5k, "model=googlenet", "model.width=0.05", "seed=3")
    assert mnist_5k.train_split is not None
    norms = []
    for seed in (3, 1003):
        generator = torch.Generator().manual_seed(seed)
        index = torch.randint(len(mnist_5k.train_split.labels), (128,), generator=generator)
        torch.manual_seed(seed)
        net = GoogLeNet(width=0.05)
        images, labels = (part[index] for part in mnist_5k.train_split)
        net.training_loss(mnist_5k.transform(images), labels)[0].backward()
        weight = next(net.parameters())
        assert isinstance(weight.grad, Tensor)
        norms.append(weight.grad.norm().item())
    assert gradients.initial_gradient(run, draws=1)["initial_gradient"] == pytest.approx(norms[0], rel=1e-4)
    assert gradients.initial_gradient(run, draws=2)["initial_gradient"] == pytest.approx(sum(norms) / 2, rel=1e-4)


@pytest.mark.extended
def test_auxiliary_classifiers_are_all_that_initial_gradients_differ_in(
    mnist_5k: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for auxiliary in ("true", "false"):
        run = run_of(nn.Identity(), mnist_5k, "model=googlenet", "model.width=0.05", f"model.auxiliary={auxiliary}")
        with monkeypatch.context() as patch:  # without its weight, a classifier adds nothing
            patch.setattr(GoogLeNet, "training_loss", main_loss)
            found.append(gradients.initial_gradient(run, draws=1)["initial_gradient"])
    assert found[0] == found[1]


def main_loss(net: GoogLeNet, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = net(images)
    return net.loss(logits, labels), logits


def test_layers_whose_change_comes_later_converge_later() -> None:
    net = AlexNet(width=0.05)
    run = run_of(net, None)
    depths = range(len(layer_order.weights(net)))
    changes = {
        name: [1.0 if epoch <= depth else 0.0 for epoch in range(10)]
        for depth, name in enumerate(layer_order.weights(net))
    }
    run.curves = {
        f"weight_change/{name}": [(float(epoch), change) for epoch, change in enumerate(values)]
        for name, values in changes.items()
    }
    found = layer_order.layer_order(run)
    assert found["order_correlation"] == 1
    assert found["converged_epoch"] == [(depth + 1, pytest.approx(0.9 * (depth + 1))) for depth in depths]
    run.curves = dict(zip(run.curves, reversed(run.curves.values()), strict=True))
    assert layer_order.layer_order(run)["order_correlation"] == -1


def test_a_run_without_the_changes_of_weights_is_refused() -> None:
    run = run_of(AlexNet(width=0.05), None)
    run.curves = {}
    with pytest.raises(ValueError, match="weight_change"):
        layer_order.layer_order(run)


def test_filters_that_never_respond_are_dead() -> None:
    conv = nn.Conv2d(1, 4, 1)
    weights = torch.tensor([1.0, 2.0, 0.001, 0.0]).view(4, 1, 1, 1)
    conv.load_state_dict({"weight": weights, "bias": torch.tensor([0.0, 0.0, 0.0, -1.0])})
    run = run_of(nn.Sequential(conv, nn.ReLU(), nn.Flatten()), KnownData(dotted(3), torch.zeros(4)))
    found = filters.dead_filters(run)
    assert found["dead_filters"] == 50  # of 1, 2, 0.001 and never
    assert found["dominance"] == pytest.approx(2 / 0.001)  # torch's median of four is the second
    with pytest.raises(ValueError, match="no convolutions"):
        filters.dead_filters(run_of(nn.Flatten(), KnownData(dotted(3), torch.zeros(4))))


def test_probe_of_features_that_tell_the_classes_apart_is_never_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    telling = torch.eye(3)[labels] + 0.1 * torch.randn(300, 3, generator=generator)
    noise = torch.randn(300, 3, generator=generator)
    sets = [labels[:200], labels[200:250], labels[250:]]
    for rows, least, most in ((telling, 0, 0), (noise, 40, 90)):
        parts = [rows[:200], rows[200:250], rows[250:]]
        assert least <= linear_probe.probe_error(parts, sets, (1e-3, 1e-1)) <= most


def test_probe_finds_which_layer_knows_the_class() -> None:
    first, second = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
        second.weight.zero_()  # which forgets it
    images = torch.cat([dotted(0, 100), dotted(27, 100)])
    labels = torch.arange(200) // 100
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    data = KnownData(images[order], labels[order])
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten())
    found = linear_probe.probe_layers(run_of(net, data))
    assert found["probe_error"] == [(1, 0), (2, pytest.approx(50))]
    assert (found["probe_correlation"], found["probe_gain"]) == (-1, pytest.approx(-50))


class MiddlePatch(nn.Module):
    """Class 1 where the four pixels in the middle have ink."""

    def forward(self, images: Tensor) -> Tensor:
        ink = 10 * images[:, 0, 13:15, 13:15].flatten(1).amin(1)
        return torch.stack([-ink, ink], 1)


def test_only_a_square_on_the_object_costs_probability() -> None:
    images = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 11:17, 11:17] = 255
    run = run_of(MiddlePatch(), KnownData(images, torch.ones(3, dtype=torch.long)))
    found = occlusion.occlusion_drop(run, side=7, shade=0.0)
    assert found["background_drop"] == pytest.approx(0, abs=1e-3)
    assert found["object_drop"] == pytest.approx(100, abs=1e-3)
    assert found["excess_drop"] == pytest.approx(100, abs=1e-3)
    with pytest.raises(ValueError, match="no square"):
        occlusion.occlusion_drop(run_of(MiddlePatch(), KnownData(images[:0], torch.ones(0, dtype=torch.long))))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("form", get_args(Form))
def test_each_form_of_the_middle_layer_is_trained_and_ends_at_a_quarter_of_the_side(form: Form) -> None:
    net = MiddleLayerNet(width=0.125, form=form)
    assert net.shape_after(net.features[:-4]) == (8, 7, 7)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    fit_one_batch(net)
    assert all(not torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))


def test_plot_has_a_point_for_each_arm_over_both_costs() -> None:
    numbers = {"a": (10.0, 100.0, 5.0), "b": (12.0, 10.0, 50.0)}
    runs = [
        {"arm": arm, "seed": seed, "measures": {"test_error": error + seed, "parameters": size, "million_macs": macs}}
        for arm, (error, size, macs) in numbers.items()
        for seed in range(3)
    ]
    figure = cost_plot.draw({"arms": {"a": [], "b": []}, "runs": runs})
    places = [
        [tuple(float(values[0]) for values in point[0].get_data()) for point in axes.containers] for axes in figure.axes
    ]
    assert places == [[(100, 11), (10, 13)], [(5, 11), (50, 13)]]


def test_gap_is_the_test_error_less_the_error_on_training_images() -> None:
    images, labels = torch.cat([dotted(0, 3), dotted(14, 1)]), torch.ones(4, dtype=torch.long)  # three of four right
    run = run_of(LeftPixel(), KnownData(images, labels))
    run.results = {"test/accuracy": 0.5, "val/accuracy": 0.9}
    assert measures.generalization_gap(run) == {"train_error": 25, "gap": 25}
    assert measures.test_error(run) == {"test_error": 50}
    run.results = {"val/accuracy": 0.9}
    assert measures.test_error(run)["test_error"] == pytest.approx(10)


def test_last_of_a_curve_is_the_mean_of_its_last_points() -> None:
    run = run_of(LeftPixel(), None)
    run.curves = {"train/loss": [(1.0, 9.0), (2.0, 1.0), (3.0, 2.0)]}
    assert measures.last_of_curve(run, "train/loss", points=2) == {"train_loss": 1.5}


def test_cost_is_of_the_processor_on_a_cpu_and_by_the_clock_on_a_gpu() -> None:
    run = run_of(LeftPixel(), None)
    facts = {"parameters": 5, "macs": 2_000_000, "seconds": 9.0, "cpu_seconds": 7.0}
    for device, seconds in (("cpu, 1 thread", 7), ("H200", 9)):
        run.results = facts | {"device": device}
        assert measures.cost(run) == {"parameters": 5, "million_macs": 2, "seconds": seconds}


def test_block_that_is_removed_costs_the_median_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    net = ResNet(20, width=0.1)
    blocks = lesion.removable(net)
    costs = dict(zip((name for [name] in blocks), (0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.6), strict=True))

    def accuracy(removed: Any, *_: Any) -> float:
        return 0.9 - sum(costs[name] for name in removed) / 2

    monkeypatch.setattr(lesion, "without", lambda net, names: list(names))
    monkeypatch.setattr(lesion, "accuracy", accuracy)
    found: Any = lesion.blocks_removed(run_of(net, KnownData(dotted(0), torch.ones(4))), draws=2)
    assert found["whole_error"] == pytest.approx(10)
    assert found["one_removed"] == pytest.approx(5)
    assert found["worst_removed"] == pytest.approx(30)
    assert dict(found["error_by_blocks_removed"])[1] == pytest.approx(10 + 45 / 7)
    assert dict(found["error_by_blocks_removed"])[7] == pytest.approx(55)


def test_removed_block_passes_on_what_it_reads() -> None:
    net = ResNet(20, width=0.1).eval()
    [name] = lesion.removable(net)[0]
    seen: list[Tensor] = []
    part = lesion.without(net, [name])
    block = part.get_submodule(name)
    block.register_forward_hook(lambda _, inputs, output: seen.extend((inputs[0], output)))
    part(torch.rand(2, 1, 28, 28))
    assert torch.equal(*seen)
    assert not isinstance(net.get_submodule(name), nn.Identity)


def test_probe_takes_the_strength_that_validation_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One readout says class 0 of all images, which is right in validation, the other class 1, right in the test."""
    readouts = {1.0: torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 2.0: torch.tensor([[0.0, 0.0], [0.0, 1.0]])}
    monkeypatch.setattr(linear_probe, "ridge_regression", lambda gram, cross, strength: readouts[strength / 4].double())
    features = [torch.randn(4, 1), torch.randn(3, 1), torch.randn(5, 1)]
    labels = [torch.tensor([0, 1, 0, 1]), torch.zeros(3, dtype=torch.long), torch.ones(5, dtype=torch.long)]
    assert linear_probe.probe_error(features, labels, (1.0, 2.0)) == 100


class SureOrNot(nn.Module):
    """Nearly sure of class 0 where the first pixel has ink; class 1 before class 2 elsewhere."""

    def forward(self, images: Tensor) -> Tensor:
        ink = images[:, :1, 14, 0] > 0
        return torch.where(ink, torch.tensor([0.98, 0.01, 0.01]), torch.tensor([0.0001, 0.6, 0.3999])).log()


def test_error_of_views_averages_probabilities_not_their_logarithms() -> None:
    """Class 0 has (0.98 + 0.0001) / 2 on average, class 1 0.305; of the products class 1 has the largest."""
    run = run_of(SureOrNot(), KnownData(dotted(0, 3), torch.zeros(3, dtype=torch.long)))
    assert views.error_of_views(run, "flip")["error_of_views"] == 0


def test_separable_middle_layer_has_nothing_between_its_convolutions() -> None:
    """As Xception, section 4.7."""
    kinds = [type(module) for module in MiddleLayerNet(form="separable").features[4:-4]]
    assert kinds == [nn.Conv2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
