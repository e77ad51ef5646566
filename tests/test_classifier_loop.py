"""The classifiers' loop against a plain one: what it logs, when it moves the learning rate, in which precision."""

import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from conftest import flat, small_run
from lightning import Callback, LightningModule, Trainer
from nets import count
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from classic_cnn.alexnet import AlexNet
from classic_cnn.classifier import ImageClassifier
from classic_cnn.lenet import LeNet5
from classic_cnn.mobilenet import MobileNet
from classic_cnn.nin import NiN
from classic_cnn.resnet import ResNet
from classic_cnn.vgg import VGG
from classic_cnn.xception import Xception
from classic_cnn.zfnet import ZFNet
from datamodules.contract import ArgumentError
from datamodules.images import ImageData, Split
from rnn.clockwork import ClockworkRNN
from rnn.esn import EchoStateNetwork

BATCHES, EPOCHS = 3, 4  # of 8, 8 and 4 images


def lenet_run(*overrides: str, folder: Path | None = None) -> tuple[ImageClassifier, ImageData, Trainer]:
    epochs = f"trainer.max_epochs={EPOCHS}"
    model, data, trainer = small_run("model=lenet", "~callbacks.plots", epochs, *overrides, folder=folder)
    assert isinstance(model, ImageClassifier)
    return model, data, trainer


def batches_by_hand(data: ImageData, epoch: int) -> list[tuple[Tensor, Tensor]]:
    """The batches of an epoch: every image once, in an order drawn from seed + epoch."""
    assert data.train_split is not None
    images, labels = data.train_split
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(data.seed + epoch))
    return [(images[chosen].float() / 127.5 - 1, labels[chosen]) for chosen in order.split(data.batch_size)]


def scalars(trainer: Trainer, name: str) -> list[float]:
    return [event.value for event in EventAccumulator(trainer.default_root_dir).Reload().Scalars(name)]


@pytest.mark.parametrize(("every", "accumulate"), [(1, 1), (2, 1), (5, 1), (1, 2), (3, 2)])
def test_logged_loss_and_accuracy_are_means_since_the_last_line(every: int, accumulate: int) -> None:
    model, data, trainer = lenet_run(
        f"trainer.log_every_n_steps={every}", f"trainer.accumulate_grad_batches={accumulate}"
    )
    model.optimizer, model.lr_scheduler = partial(Adam, lr=1e-3), None
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.fit(model, data)
    end = {name: value.clone() for name, value in model.state_dict().items()}

    model.load_state_dict(weights)
    optimizer = Adam(model.parameters(), lr=1e-3)
    losses, accuracies = [], []
    since: list[tuple[float, int, int]] = []  # loss, correct, images
    steps = 0
    for epoch in range(EPOCHS):
        for index, (images, labels) in enumerate(batches_by_hand(data, epoch), start=1):
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            (loss / accumulate).backward()
            since.append((loss.item() * len(labels), int((logits.argmax(1) == labels).sum()), len(labels)))
            if index % accumulate == 0 or index == BATCHES:
                optimizer.step()
                optimizer.zero_grad()
                steps += 1
                if steps % every == 0:
                    loss_sum, correct, count = (sum(numbers) for numbers in zip(*since, strict=True))
                    losses.append(loss_sum / count)
                    accuracies.append(correct / count)
                    since.clear()
    assert all(torch.allclose(value, end[name], atol=1e-5) for name, value in model.state_dict().items())
    assert scalars(trainer, "train/loss") == pytest.approx(losses, rel=1e-4)
    assert scalars(trainer, "train/accuracy") == pytest.approx(accuracies)


@pytest.mark.parametrize(("every", "accumulate"), [(0, 1), (1, 1), (2, 1), (50, 1), (2, 2)])
def test_metrics_of_a_run_are_means_over_its_last_epoch(every: int, accumulate: int) -> None:
    model, data, trainer = lenet_run(
        f"trainer.log_every_n_steps={every}",
        f"trainer.accumulate_grad_batches={accumulate}",
        "~callbacks.learning_rate",
    )
    model.optimizer, model.lr_scheduler = partial(SGD, lr=0.0), None  # so that the weights at the end are those before
    trainer.fit(model, data)
    sums = torch.zeros(3)  # loss, correct, images
    for images, labels in batches_by_hand(data, EPOCHS - 1):
        logits = model(images)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([loss, (logits.argmax(1) == labels).sum(), torch.tensor(len(labels))]).detach()
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(float(sums[0] / sums[2]), rel=1e-5)
    assert trainer.callback_metrics["train/accuracy"].item() == pytest.approx(float(sums[1] / sums[2]))
    lines = 0 if every == 0 else EPOCHS * -(-BATCHES // accumulate) // every
    tags = EventAccumulator(trainer.default_root_dir).Reload().Tags()["scalars"]
    assert len(scalars(trainer, "train/loss") if "train/loss" in tags else []) == lines


def test_nothing_is_logged_in_training_where_nobody_wants_it() -> None:
    model, data, trainer = lenet_run("trainer.log_every_n_steps=0", "~callbacks.learning_rate")
    trainer.fit(model, data)
    assert "train/loss" not in EventAccumulator(trainer.default_root_dir).Reload().Tags()["scalars"]


def test_validation_metrics_equal_a_count_by_hand() -> None:
    """1,300 images: a batch of 1,000 and one of 300, which weighs less."""
    model, data, trainer = lenet_run("data.train_images_per_class=130", "model.label_smoothing=0.3")
    assert data.train_split is not None
    order = torch.randperm(1300)
    data.val_split = Split(data.train_split.images[order], data.train_split.labels[order])
    [metrics] = trainer.validate(model, data, verbose=False)
    model.eval()
    with torch.no_grad():
        logits = model(data.val_split.images.float() / 127.5 - 1)
    correct = sum(
        int(scores.argmax()) == int(label) for scores, label in zip(logits, data.val_split.labels, strict=True)
    )
    true_class_probabilities = logits.double().softmax(1)[torch.arange(1300), data.val_split.labels]
    assert metrics["val/accuracy"] == pytest.approx(correct / 1300)
    assert metrics["val/loss"] == pytest.approx(
        -true_class_probabilities.log().mean().item(), rel=1e-5
    )  # smoothing is for training


def test_label_smoothing_spreads_the_target_over_all_classes() -> None:
    model, _, _ = lenet_run("model.label_smoothing=0.3")
    logits, labels = torch.randn(5, 10), torch.arange(5)
    target = 0.7 * F.one_hot(labels, 10) + 0.3 / 10
    torch.testing.assert_close(model.train().loss(logits, labels), -(target * logits.log_softmax(1)).sum(1).mean())


class LearningRates(Callback):
    """The learning rate of each batch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def learning_rates(scheduler: Callable[..., Any], lr: float = 0.1, *overrides: str) -> list[float]:
    model, data, trainer = lenet_run(*overrides)
    model.optimizer, model.lr_scheduler = partial(SGD, lr=lr), scheduler
    rates = LearningRates()
    trainer.callbacks.append(rates)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    return rates.seen


def schedule_by_hand(scheduler: Callable[..., Any], steps: int) -> list[float]:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = scheduler(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_one_cycle_is_stepped_after_every_batch() -> None:
    expected = schedule_by_hand(partial(OneCycleLR, max_lr=0.1, total_steps=BATCHES * EPOCHS), BATCHES * EPOCHS)
    rates = learning_rates(partial(OneCycleLR, max_lr=0.1))
    assert rates == pytest.approx(expected)
    assert len(set(rates)) > EPOCHS


def test_one_cycle_counts_steps_and_not_batches_where_gradients_are_accumulated() -> None:
    rates = learning_rates(partial(OneCycleLR, max_lr=0.1), 0.1, "trainer.accumulate_grad_batches=2")
    steps = schedule_by_hand(partial(OneCycleLR, max_lr=0.1, total_steps=2 * EPOCHS), 2 * EPOCHS)
    assert rates == pytest.approx(
        [rate for pair in zip(steps[::2], steps[1::2], strict=True) for rate in (pair[0], *pair)]
    )


def test_cosine_annealing_is_stepped_after_every_epoch() -> None:
    scheduler = partial(CosineAnnealingLR, T_max=EPOCHS)
    expected = [rate for rate in schedule_by_hand(scheduler, EPOCHS) for _ in range(BATCHES)]
    assert learning_rates(scheduler) == pytest.approx(expected)


def test_reduce_on_plateau_looks_at_the_validation_loss() -> None:
    """At a rate too small to change the loss, every epoch after the first is one without progress."""
    rates = learning_rates(partial(ReduceLROnPlateau, factor=0.5, patience=0), lr=1e-12)
    expected = [rate for rate in (1e-12, 1e-12, 5e-13, 2.5e-13) for _ in range(BATCHES)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("mode", "metric"), [("min", "val/loss"), ("max", "val/accuracy")])
def test_reduce_on_plateau_monitors_what_its_mode_suits(mode: Literal["min", "max"], metric: str) -> None:
    net = LeNet5(lr_scheduler=partial(ReduceLROnPlateau, mode=mode))
    assert net.configure_optimizers()["lr_scheduler"]["monitor"] == metric


def test_channels_last_gives_the_same_result_to_rounding(tmp_path: Path) -> None:
    ends = []
    for on in (True, False):
        model, data, trainer = lenet_run(f"model.channels_last={on}", "trainer.max_epochs=1", folder=tmp_path / str(on))
        trainer.fit(model, data)
        kernels = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
        assert kernels[1].is_contiguous(memory_format=torch.channels_last) == on
        ends.append(flat(model))
    torch.testing.assert_close(*ends, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
@pytest.mark.parametrize("channels", range(1, 25))
def test_strided_pointwise_convolutions_equal_the_contiguous_ones(channels: int, stride: int | tuple[int, int]) -> None:
    contiguous = nn.Conv2d(channels, 2 * channels, 1, stride)
    net = ImageClassifier()
    net.layer = deepcopy(contiguous)
    net.setup("fit")
    results = []
    for layer in (net.layer, contiguous):
        images = torch.linspace(-1, 1, 32 * channels * 14 * 13).view(32, channels, 14, 13).requires_grad_()
        layer(images.sin()).square().mean().backward()
        results.append([image_or_weight.grad for image_or_weight in (images, *layer.parameters())])
    torch.testing.assert_close(*results)


class OwnConvolution(nn.Conv2d):
    """What a user may have written, which is not to be replaced."""


@pytest.mark.parametrize(
    ("layer", "is_replaced"),
    [
        (nn.Conv2d(4, 8, 1, stride=2, padding="valid"), True),
        (nn.Conv2d(4, 8, 1, stride=2, padding=1), False),
        (OwnConvolution(4, 8, 1, stride=2), False),
    ],
    ids=["valid", "padded", "of its own class"],
)
def test_strided_pointwise_convolution_that_cannot_be_replaced_keeps_a_net_from_channels_last(
    layer: nn.Conv2d, is_replaced: bool
) -> None:
    net = ImageClassifier()
    net.layers = nn.Sequential(nn.Conv2d(2, 4, 3), layer)
    images = torch.rand(3, 2, 9, 9)
    expected, kind = net.layers(images), type(layer)
    for _ in range(2):
        net.setup("fit")
        torch.testing.assert_close(net.layers(images), expected)
    assert (type(layer) is kind) is not is_replaced
    assert any(map(is_channels_last, net.parameters())) is is_replaced


NARROW_NETS = """
from functools import partial
import torch
from classic_cnn.resnet import ResNet
from classic_cnn.xception import Xception
for build in (Xception, partial(ResNet, depth=18), partial(ResNet, depth=50)):
    for channels in (1, 2, 3, 4, 6, 8, 12, 16):
        net = build(width=channels / 64)
        net.setup("fit")
        loss, _ = net.training_loss(torch.rand(32, 1, 28, 28), torch.arange(32) % 10)
        loss.backward()
        assert loss.isfinite()
"""


@pytest.mark.parametrize("processor", ["AVX2", "DEFAULT"])
def test_narrow_nets_write_within_their_memory(processor: str) -> None:
    """With strided 1x1 convolutions of oneDNN the narrower ones end their process on AVX2."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": processor}
    subprocess.run([sys.executable, "-c", NARROW_NETS], env=environment, check=True)


def is_channels_last(weight: nn.Parameter) -> bool:
    return weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


class Dtypes(Callback):
    """In which precision the last layer answers."""

    def __init__(self) -> None:
        self.seen: set[torch.dtype] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = list(pl_module.modules())[-1]
        last.register_forward_hook(lambda _module, _input, output: self.seen.add(output.dtype))


def test_mixed_precision_trains_on_a_cpu() -> None:
    model, data, trainer = lenet_run(
        "trainer.precision=bf16-mixed", "trainer.max_epochs=1", "trainer.log_every_n_steps=1"
    )
    before = flat(model)
    dtypes = Dtypes()
    trainer.callbacks.append(dtypes)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    after = flat(model)
    assert dtypes.seen == {torch.bfloat16}
    assert after.dtype == torch.float32
    assert after.isfinite().all()
    assert not torch.equal(before, after)
    losses = scalars(trainer, "train/loss")
    assert len(losses) == BATCHES
    assert losses == pytest.approx([2.3] * BATCHES, abs=0.3)


# --- from Python, without Hydra


def plain_loader() -> DataLoader[Any]:
    images = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.arange(20) % 10), batch_size=10)


def plain_trainer(folder: Path) -> Trainer:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, enable_checkpointing=False, **quiet)


QUIET = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
)


@QUIET
def test_a_net_is_trained_tested_and_asked_with_any_loader(tmp_path: Path) -> None:
    net, loader = LeNet5(), plain_loader()
    trainer = plain_trainer(tmp_path)
    trainer.fit(net, loader)
    [metrics] = trainer.test(net, loader, verbose=False)
    assert set(metrics) == {"test/loss", "test/accuracy"}
    images = loader.dataset.tensors[0]  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = net.eval()(images).softmax(1)
    for asked in (loader, DataLoader(images, batch_size=10)):
        answers = trainer.predict(net, asked)
        assert answers is not None
        torch.testing.assert_close(torch.cat(answers), expected)  # type: ignore[arg-type]


@QUIET
@pytest.mark.parametrize(
    "make",
    [
        partial(ResNet, depth=32, width=0.25, optimizer=partial(SGD, lr=0.1)),
        partial(NiN.published, in_channels=1, num_classes=12, image_size=28, label_smoothing=0.1),
        partial(AlexNet, num_classes=12),
        partial(ClockworkRNN, units=30, periods=[1, 2, 5]),
        partial(EchoStateNetwork, units=20, ridge=[0.1], snapshots=4),
    ],
)
def test_load_from_checkpoint_rebuilds_a_net_of_any_size(tmp_path: Path, make: Callable[[], ImageClassifier]) -> None:
    net = make()
    trainer = plain_trainer(tmp_path)
    trainer.fit(net, plain_loader())
    trainer.save_checkpoint(tmp_path / "net.ckpt")
    loaded = type(net).load_from_checkpoint(tmp_path / "net.ckpt", weights_only=True)
    assert count(loaded) == count(net)
    assert loaded.label_smoothing == net.label_smoothing
    images = torch.rand(2, 1, 28, 28)
    net.setup("predict")
    loaded.setup("predict")
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), net.eval()(images))


@pytest.mark.parametrize(
    ("net", "name", "value"),
    [
        (ResNet, "depth", 17),
        (VGG, "depth", 17),
        (VGG, "width", 0),
        (VGG, "width", True),
        (VGG, "pooled_stages", 6),
        (MobileNet, "width", -1.0),
        (Xception, "middle", -1),
        (ZFNet, "filter_rms", 0.0),
        (AlexNet, "layout", "huge"),
        (AlexNet, "dropout", 1.5),
        (LeNet5, "in_channels", 0),
        (LeNet5, "num_classes", 2.0),
        (LeNet5, "label_smoothing", 1.5),
        (LeNet5, "channels_last", "yes"),
        (LeNet5, "heads", 3),
    ],
)
def test_a_wrong_argument_is_refused_by_its_name(net: type[ImageClassifier], name: str, value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        net(**{name: value})
    assert caught.value.name == name
