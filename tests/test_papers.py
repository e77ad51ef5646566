"""What the papers brought besides their nets: views at test time, warm starts, convergence, schedules, augmentation."""

import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run_well
from conftest import compose, small_run
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from classic_cnn.alexnet import AlexNet
from classic_cnn.callbacks.convergence import LayerConvergence, weights
from classic_cnn.callbacks.test_time_augmentation import VIEWS, AveragedViews, flip, multi_scale, ten_crop
from classic_cnn.callbacks.weight_ema import WeightEMA
from classic_cnn.lenet import LeNet5
from classic_cnn.vgg import VGG
from datamodules.images import ImageData
from tasks.build import build, describe
from tasks.test import test as test_task
from tasks.train import measure
from tasks.train import train as train_task

test_task.__test__ = False  # type: ignore[attr-defined]  # a task by name, not a test of pytest's
CONFIG = OmegaConf.load(Path(__file__).parents[1] / "conf" / "config.yaml")
SMALL_VGG: dict[str, Any] = {"width": 0.1}


# --- views at test time


def test_ten_crop_is_corners_and_centre_and_their_mirror_images() -> None:
    images = torch.rand(3, 1, 28, 28)
    padded = F.pad(images, (2, 2, 2, 2))
    corners = [padded[..., y : y + 28, x : x + 28] for y, x in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))]
    expected = corners + [corner.flip(-1) for corner in corners]
    views = ten_crop(images)
    assert len(views) == 10
    assert all(any(torch.equal(view, other) for other in views) for view in expected)


def test_flip_is_the_image_and_its_mirror_image() -> None:
    images = torch.rand(3, 1, 28, 28)
    assert [torch.equal(view, image) for view, image in zip(flip(images), (images, images.flip(3)), strict=True)]


@pytest.mark.parametrize("side", [28, 32, 224, 227])
def test_multi_scale_keeps_size_and_centre(side: int) -> None:
    square = torch.zeros(1, 1, side, side)
    inner = side // 4
    square[..., inner : side - inner, inner : side - inner] = 1.0
    small, same, large = multi_scale(square)
    assert small.shape == same.shape == large.shape == square.shape
    assert torch.equal(same, square)
    for view, scale in ((small, 7 / 8), (large, 9 / 8)):
        torch.testing.assert_close(view, view.flip(2, 3), atol=1e-4, rtol=0)
        assert float(view.sum() / square.sum()) == pytest.approx(scale**2, rel=0.05)


@pytest.mark.parametrize("normalize", ["half", "pixel_mean"])
def test_views_are_those_of_the_stored_pixels(normalize: str) -> None:
    data = small_run(f"data.normalize={normalize}")[1]
    assert data.val_split is not None
    pixels = data.val_split.images
    seen: list[Tensor] = []

    class Reader(LeNet5):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().forward(images)

    trainer = small_run("~callbacks.plots")[2]
    trainer.callbacks.append(AveragedViews("ten_crop"))  # type: ignore[attr-defined]
    trainer.validate(Reader(), data, verbose=False)
    expected = [data.transform(view) for view in ten_crop(pixels)]
    assert len(seen) == 11
    torch.testing.assert_close(torch.stack(seen[1:]), torch.stack(expected))


@pytest.mark.parametrize("name", VIEWS)
def test_accuracy_over_views_is_that_of_the_averaged_probabilities(name: str) -> None:
    model, data, trainer = small_run("~callbacks.plots")
    trainer.callbacks.append(AveragedViews(name))  # type: ignore[attr-defined]
    [metrics] = trainer.validate(model, data, verbose=False)
    assert data.val_split is not None
    right = 0
    for image, label in zip(*data.val_split, strict=True):
        views = VIEWS[name]((image.unsqueeze(0) / 255).float())
        with torch.no_grad():
            probabilities = sum(model(2 * view - 1).softmax(1) for view in views)
        right += int(probabilities.argmax()) == int(label)
    assert metrics[f"val/accuracy_{name}"] == pytest.approx(right / len(data.val_split.labels))
    assert "val/accuracy" in metrics


def test_test_task_reports_accuracy_with_and_without_ten_crop(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("trainer.accelerator=cpu", "~callbacks.progress_bar", "~callbacks.plots")
    train_task(
        compose(
            "data=mnist_5k", "data.train_images_per_class=2", "trainer.max_epochs=1", *small, folder=new_folder("run")
        )
    )
    checkpoint = "run/checkpoints/best.ckpt"
    asked = ("task=test", "task.test_time_augmentation=ten_crop", f"ckpt_path={checkpoint}")
    test_task(compose(*asked, folder=new_folder("test")))
    results = json.loads(Path("test/results.json").read_text())
    assert results["val/accuracy"] == json.loads(Path("run/results.json").read_text())["val/accuracy"]
    assert 0 <= results["val/accuracy_ten_crop"] <= 1
    assert "val/accuracy_ten_crop" in capsys.readouterr().out
    with pytest.raises(ValueError, match="test_time_augmentation=nine: choose one of none, flip, ten_crop, multi_sc"):
        test_task(compose("task=test", "task.test_time_augmentation=nine", *asked[2:], folder=Path("test")))


def new_folder(name: str) -> Path:
    (Path(name) / ".hydra").mkdir(parents=True)
    return Path(name)


# --- warm start


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_deep_vgg_starts_from_four_convolutions_and_the_large_layers_of_a_shallow_one() -> None:
    shallow, deep = VGG(depth=11, **SMALL_VGG), VGG(depth=13, **SMALL_VGG)
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
    first, second = VGG(depth=11, **SMALL_VGG), VGG(depth=11, **SMALL_VGG)
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
    with pytest.raises(ValueError, match=r"model.init_from=old.ckpt: has no layer in common with this VGG"):
        VGG(depth=11, init_from="old.ckpt", **SMALL_VGG).warm_start(LeNet5().state_dict())


def test_training_starts_from_another_run_and_does_without_it_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    small = (
        *(
            "model=vgg",
            "model.width=0.05",
            "data=mnist_5k",
            "data.train_images_per_class=1",
            "trainer.limit_val_batches=1",
        ),
        *("trainer.accelerator=cpu", "~callbacks.progress_bar", "~callbacks.plots", "model.lr_scheduler=null"),
        *("trainer.max_epochs=1", "model.optimizer.lr=0"),
    )
    train_task(compose(*small, "model.depth=11", folder=new_folder("shallow")))
    start = Path("shallow/checkpoints/last.ckpt")
    train_task(compose(*small, "model.depth=13", f"model.init_from={start}", folder=new_folder("deep")))
    printed = capsys.readouterr().out
    assert "taken over   features.conv1_1, features.bn1_1, features.conv2_1," in printed
    assert "left random  features.conv1_2, features.bn1_2, features.conv2_2," in printed
    shallow, deep = (torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("shallow", "deep"))
    assert torch.equal(deep["state_dict"]["classifier.1.weight"], shallow["state_dict"]["classifier.1.weight"])
    start.unlink()
    more = ("ckpt_path=deep/checkpoints/last.ckpt", "trainer.max_epochs=2")
    train_task(compose(*more, folder=new_folder("on")))
    test_task(compose("task=test", more[0], folder=new_folder("test")))
    with pytest.raises(ValueError, match=r"model.init_from=shallow/checkpoints/last.ckpt: no such file"):
        train_task(compose(*small, f"model.init_from={start}", folder=new_folder("none")))


# --- layer convergence


class Snapshots(Callback):
    """Keeps the weights as they are at the start and after each epoch."""

    def __init__(self) -> None:
        self.weights: list[dict[str, np.ndarray]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights.append({name: w.detach().numpy().copy() for name, w in weights(pl_module).items()})


CONVERGENCE = "+callbacks.convergence._target_=classic_cnn.callbacks.convergence.LayerConvergence"


def test_layer_convergence_logs_relative_changes_and_a_heat_map(tmp_path: Path) -> None:
    model, data, trainer = small_run(CONVERGENCE, "trainer.max_epochs=2", "~callbacks.plots", folder=tmp_path)
    snapshots = Snapshots()
    trainer.callbacks.append(snapshots)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    board = EventAccumulator(str(tmp_path)).Reload()
    names = ["features.0", "features.3", "classifier.1", "classifier.3", "classifier.5"]
    assert {f"convergence/{name}" for name in names} < set(board.Tags()["scalars"])
    for name in names:
        values = [w[name] for w in snapshots.weights]
        expected = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairwise(values)]
        logged = [event.value for event in board.Scalars(f"convergence/{name}")]
        assert logged == pytest.approx(expected, rel=1e-4)
    assert "convergence/relative change of the weights" in board.Tags()["images"]


def test_layer_convergence_goes_on_with_a_resumed_run(tmp_path: Path) -> None:
    for epochs in (2, 3):
        overrides = (CONVERGENCE, "model.lr_scheduler=null", f"trainer.max_epochs={epochs}", "~callbacks.plots")
        model, data, trainer = small_run(*overrides, folder=tmp_path)
        last = tmp_path / "checkpoints/last.ckpt"
        trainer.fit(model, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    [callback] = [c for c in trainer.callbacks if isinstance(c, LayerConvergence)]  # type: ignore[attr-defined]
    assert sorted(callback.changes) == [0, 1, 2]


# --- schedules and averaged weights


def learning_rates(name: str, epochs: int) -> list[float]:
    """The rate in each epoch when nothing is learned and the rate starts at 1."""
    cfg = compose(f"model.lr_scheduler=${{schedules.{name}}}", f"trainer.max_epochs={epochs}")
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = SGD([parameter], lr=1.0)
    schedule = instantiate(cfg.model).lr_scheduler(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(*([0.5] if name == "plateau" else []))
    return rates


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plateau", [1.0] * 4 + [0.1] * 3 + [0.01] * 3),
        ("steps", [1.0] * 10 + [0.1] * 5 + [0.01] * 5),
        ("decay", [1.0] * 8 + [0.96] * 8 + [0.96**2] * 4),
        ("polynomial", [(1 - epoch / 20) ** 0.5 for epoch in range(20)]),
        ("cosine", [0.5 * (1 + np.cos(np.pi * epoch / 20)) for epoch in range(20)]),
    ],
)
def test_schedule_is_the_papers(name: str, expected: list[float]) -> None:
    assert learning_rates(name, len(expected)) == pytest.approx(expected)


@pytest.mark.parametrize("name", CONFIG.schedules)
def test_schedule_trains_and_its_checkpoint_is_plain(name: str, tmp_path: Path) -> None:
    model, data, trainer = small_run(f"model.lr_scheduler=${{schedules.{name}}}", "~callbacks.plots", folder=tmp_path)
    trainer.fit(model, data)
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["lr_schedulers"]


EMA_RUN = (
    *("model=vgg", "model.depth=11", "model.width=0.05", "~callbacks.plots", "model.label_smoothing=0.1"),
    *("+callbacks.ema._target_=classic_cnn.callbacks.weight_ema.WeightEMA", "+callbacks.ema.decay=0.5"),
    *("callbacks.checkpoint.monitor=val/loss", "callbacks.checkpoint.mode=min", "model.lr_scheduler=null"),
)


def test_averaged_weights_are_what_is_validated_saved_and_measured(tmp_path: Path) -> None:
    model, data, trainer = small_run(*EMA_RUN, "trainer.max_epochs=3", folder=tmp_path)
    trainer.fit(model, data)
    best = tmp_path / "checkpoints/best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    raw = checkpoint["current_model_state"]
    assert not torch.equal(checkpoint["state_dict"]["classifier.1.weight"], raw["classifier.1.weight"])
    assert not torch.equal(checkpoint["state_dict"]["features.bn1_1.running_mean"], raw["features.bn1_1.running_mean"])
    reached = trainer.checkpoint_callback.best_model_score.item()  # type: ignore[union-attr]
    assert measure(model, data, trainer, str(best))["val/loss"] == pytest.approx(reached)
    data.test_split = data.val_split
    assert measure(model, data, trainer, str(best))["test/loss"] == pytest.approx(reached)
    assert not changed(model, checkpoint["state_dict"])


def test_averaged_weights_of_a_resumed_run_are_those_of_one_in_one_go(tmp_path: Path) -> None:
    for folder, epochs in (("whole", 2), ("parts", 1), ("parts", 2)):
        model, data, trainer = small_run(*EMA_RUN, f"trainer.max_epochs={epochs}", folder=tmp_path / folder)
        last = tmp_path / folder / "checkpoints/last.ckpt"
        trainer.fit(model, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    whole, parts = (torch.load(tmp_path / f / "checkpoints/last.ckpt", weights_only=True) for f in ("whole", "parts"))
    for state in ("state_dict", "current_model_state"):
        assert all(torch.equal(tensor, parts[state][name]) for name, tensor in whole[state].items())


def test_averaging_leaves_whole_numbers_alone() -> None:
    net = LeNet5(as_published=True)
    ema = WeightEMA(decay=0.9)
    ema.setup(Trainer(logger=False, barebones=True), net, "fit")
    assert ema._average_model is not None
    for _ in range(3):
        ema._average_model.update_parameters(net)
    pairs = {name: buffer for name, buffer in ema._average_model.module.named_buffers() if name.endswith("pairs")}
    assert pairs
    assert all(torch.equal(buffer, net.get_buffer(name)) for name, buffer in pairs.items())
    with pytest.raises(ValueError, match=r"callbacks.ema.decay=1.5: a number from 0 to 1"):
        WeightEMA(decay=1.5)


# --- augmentation


@pytest.mark.parametrize("name", [name for name in CONFIG.augmentations if name != "none"])
def test_augmentation_draws_for_each_image_and_keeps_pixels_in_range(name: str) -> None:
    data = ImageData(augment=instantiate(CONFIG.augmentations[name]))
    shirt = torch.zeros(1, 28, 28, dtype=torch.uint8)
    shirt[:, 5:24, 8:17] = 200
    shirt[:, 7:10, 9:11] = 255
    images = data.transform(shirt.repeat(64, 1, 1, 1), augment=True)
    assert images.shape == (64, 1, 28, 28)
    assert images.min() >= -1
    assert images.max() <= 1
    assert len(images.unique(dim=0)) > 16
    if name != "crop":
        assert len(images.unique(dim=0)) > 25  # the 25 places of a window alone


# --- the summary's comparison


def finished_run(folder: str, results: dict[str, Any]) -> None:
    run = new_folder(folder)
    (run / ".hydra/overrides.yaml").touch()
    (run / "results.json").write_text(json.dumps(results))


def test_summaries_of_a_sweep_end_in_one_table_with_the_accuracy_that_is_known() -> None:
    lenet = {"status": "finished", "task": "train", "model": "lenet", "data": "mnist_5k", "folder": "there", "seed": 0}
    lenet |= {"parameters": 61_706, "macs": 416_520, "overrides": []}
    finished_run("outputs/a", lenet | {"objective": 0.97, "test/accuracy": 0.9612})
    finished_run("outputs/b", lenet | {"objective": 0.96, "test/accuracy": 0.9734})  # better only on the test images
    finished_run("outputs/c", lenet | {"objective": 0.99, "test/accuracy": 0.9856, "macs": 1})  # another LeNet
    run_well("-m", "task=summarize", "model=lenet,gan,resnet", "data=mnist_5k")
    [sweep] = Path("outputs/sweeps").iterdir()
    assert (sweep / "leaderboard.png").stat().st_size > 1000
    assert (sweep / "leaderboard.md").read_text().splitlines() == [
        "| model | data | parameters | MACs | accuracy (%) | seeds |",
        "|---|---|---|---|---|---|",
        "| lenet | mnist_5k | 61.7 k | 417 k | 96.12 | 1 |",
        "| gan | mnist_5k | 3.7 M | 3.7 M |  | 1 |",
        "| resnet | mnist_5k | 269 k | 30.8 M |  | 1 |",
    ]


def test_published_form_with_images_of_another_size_names_the_right_one() -> None:
    with pytest.raises(ValueError, match=r"data.image_size=28: AlexNet cannot read such images: use .*image_size=227"):
        build(compose("model=alexnet", "model.as_published=true", "data=mnist_5k"))


def test_net_for_colour_is_summarized_but_not_trained_on_gray_images() -> None:
    cfg = compose("model=nin", "+model.in_channels=3", "data=mnist_5k", "trainer.accelerator=cpu")
    model, data, trainer = build(cfg)
    assert isinstance(model.example_input_array, Tensor)
    assert model.example_input_array.shape == (1, 3, 28, 28)
    with pytest.raises(ValueError, match=r"model.in_channels=3: these images have 1 channel"):
        describe(model, data, trainer)
