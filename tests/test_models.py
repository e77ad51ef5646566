"""Every net in conf/model: it builds, trains, is saved and loaded; every classifier overfits a few digits."""

import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import CONF, MODELS, compose, model_class, models_of, quick, small_run
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from nets import dropped, leaves, on_meta
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.optim import Adam

from classic_cnn.alexnet import AlexNet
from classic_cnn.classifier import ImageClassifier
from classic_cnn.googlenet import GoogLeNet
from classic_cnn.mobilenet import MobileNet
from classic_cnn.nin import NiN
from classic_cnn.resnet import ResNet
from classic_cnn.vgg import VGG
from classic_cnn.xception import Xception
from classic_cnn.zfnet import ZFNet
from datamodules.images import Split
from gan.adversarial import GAN
from rnn.sequence_classifier import SequenceClassifier
from tasks.build import build_model

CLASSIFIERS = models_of(ImageClassifier)
FAMILIES = (ImageClassifier, GAN)
LOSSES = {ImageClassifier: {"train/loss"}, GAN: {"train/generator_loss", "train/discriminator_loss"}}
PUBLISHED = sorted(file.stem for file in (CONF / "model" / "published").glob("*.yaml"))
RECURRENT = models_of(SequenceClassifier)
METRICS = {ImageClassifier: {"train/accuracy", "val/loss", "val/accuracy"}, GAN: set()}


class ReachedByGradient(Callback):
    """Notes which parameters ever had a gradient other than zero."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gradients = {name: parameter.grad for name, parameter in pl_module.named_parameters()}
        self.names |= {name for name, gradient in gradients.items() if gradient is not None and gradient.any()}


class Fitted(NamedTuple):
    """A net after three batches of real digits, and how it was before."""

    name: str
    model: LightningModule
    before: dict[str, Tensor]
    reached: set[str]
    folder: Path


@pytest.fixture(scope="module", params=MODELS)
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp(request.param)
    overrides = ("trainer.log_every_n_steps=1", *quick(request.param))
    model, data, trainer = small_run(f"model={request.param}", *overrides, folder=folder)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    gradients = ReachedByGradient()
    trainer.callbacks.append(gradients)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    return Fitted(request.param, model, before, gradients.names, folder)


def build(name: str, *overrides: str) -> LightningModule:
    return instantiate(compose(f"model={name}", *overrides).model, _convert_="all")


def some_inputs(model: LightningModule) -> Tensor:
    """Four inputs of the net: images or latents."""
    assert isinstance(model.example_input_array, Tensor)
    return torch.randn(4, *model.example_input_array.shape[1:]).clamp(-1, 1)


def outputs(model: LightningModule, inputs: Tensor) -> Tensor:
    model.eval()
    with torch.no_grad():
        return model(inputs)


def same(first: Iterable[Tensor], second: Iterable[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_every_model_belongs_to_a_family() -> None:
    assert sorted(name for family in FAMILIES for name in models_of(family)) == MODELS


def test_output_is_one_logit_per_class_or_an_image(fitted: Fitted) -> None:
    shape = (4, 10) if isinstance(fitted.model, ImageClassifier) else (4, 1, 28, 28)
    assert outputs(fitted.model, some_inputs(fitted.model)).shape == shape


def test_one_short_fit_moves_every_parameter(fitted: Fitted) -> None:
    still = [name for name, value in fitted.model.named_parameters() if torch.equal(value, fitted.before[name])]
    assert not still


def test_no_parameter_is_without_a_gradient(fitted: Fitted) -> None:
    by_gradient = fitted.before.keys() if fitted.model.trainer.optimizers else set()  # or solved in closed form
    assert fitted.reached == by_gradient


def test_one_short_fit_logs_finite_metrics(fitted: Fitted) -> None:
    board = EventAccumulator(str(fitted.folder)).Reload()
    family = next(family for family in FAMILIES if isinstance(fitted.model, family))
    assert LOSSES[family] | METRICS[family] <= set(board.Tags()["scalars"])
    for name in board.Tags()["scalars"]:
        assert all(math.isfinite(event.value) for event in board.Scalars(name)), name
    steps = 3 if fitted.model.trainer.optimizers else 1  # batches; a closed form is solved once an epoch
    assert all(len(board.Scalars(name)) == steps for name in LOSSES[family])


def test_checkpoint_loads_back_the_same_model(fitted: Fitted) -> None:
    checkpoint = torch.load(fitted.folder / "checkpoints" / "last.ckpt", weights_only=True)
    model = build(fitted.name, *quick(fitted.name))
    inputs = some_inputs(fitted.model)
    assert not torch.equal(outputs(model, inputs), outputs(fitted.model, inputs))
    model.load_state_dict(checkpoint["state_dict"])
    model.setup("predict")  # the same memory format, as rounding depends on it
    assert torch.equal(outputs(model, inputs), outputs(fitted.model, inputs))


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_on_the_weights(name: str) -> None:
    cfg = compose(f"model={name}", *quick(name))
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(
            list(instantiate(cfg.model, _convert_="all").state_dict().values())
        )  # random layers that stay so, too
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


@pytest.mark.extended
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_overfits_16_digits(name: str) -> None:
    model, data, trainer = small_run(
        *(f"model={name}", "data.batch_size=16", "trainer.max_epochs=80", "trainer.check_val_every_n_epoch=100"),
        *("trainer.log_every_n_steps=1", "~callbacks.plots", *quick(name)),
    )
    assert isinstance(model, ImageClassifier)
    assert data.train_split is not None
    data.train_split = data.val_split = Split(data.train_split.images[:16], data.train_split.labels[:16])
    model.optimizer, model.lr_scheduler = partial(Adam, lr=1e-3), None
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5  # so few steps are too few for a slower mean
    enough = EarlyStopping("train/loss", stopping_threshold=0.05, patience=1000, check_on_train_epoch_end=True)
    trainer.callbacks.append(enough)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    [metrics] = trainer.validate(model, data, verbose=False)
    assert trainer.current_epoch < 80
    assert metrics["val/accuracy"] == 1
    assert metrics["val/loss"] < 0.2


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_takes_any_channels_classes_and_sizes(name: str) -> None:
    with torch.device("cpu" if name in RECURRENT else "meta"):  # shapes without values: no time, no memory
        net = model_class(name)(in_channels=3, num_classes=26, image_size=32)
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 26)


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name not in RECURRENT])
def test_classifier_reads_every_size_from_the_smallest_one_that_it_names(name: str) -> None:
    make = model_class(name)
    with torch.device("meta"):
        smallest = 1
        try:
            make(image_size=1)
        except ValueError as error:
            smallest = int(re.findall(r"image_size must be at least (\d+)", str(error))[0])
            with pytest.raises(ValueError, match="image_size"):
                make(image_size=smallest - 1)
        for size in (smallest, smallest + 1):
            assert make(image_size=size).eval()(torch.zeros(1, 1, size, size)).shape == (1, 10)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_form_reads_the_images_and_classes_of_the_data(name: str) -> None:
    cfg = compose(f"model=published/{name}", "data=mnist_5k")
    with torch.device("meta"):
        model = build_model(cfg.model, instantiate(cfg.data, _convert_="all"))
        assert isinstance(model, ImageClassifier)
        assert model.image_size == cfg.data.image_size
        assert model(torch.zeros(1, 1, model.image_size, model.image_size)).shape == (1, 10)


def deviations(net: nn.Module) -> list[tuple[Tensor, float]]:
    """The large weights of a net with their standard deviation, which a few thousand draws give to a few per cent."""
    weights = [m.weight.detach() for m in net.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 5000]
    assert weights
    return [(weight, weight.std().item()) for weight in weights]


@pytest.mark.parametrize(
    ("make", "gain"),
    [
        *((make, 2) for make in (AlexNet, ZFNet, NiN, VGG, GoogLeNet, ResNet, MobileNet, Xception)),
        (partial(AlexNet, activation="tanh"), (5 / 3) ** 2),
        (partial(AlexNet, activation="sigmoid"), 1),
    ],
)
def test_convolutions_start_as_he_et_al_draw_them(make: Callable[[], ImageClassifier], gain: float) -> None:
    """K. He et al., "Delving Deep into Rectifiers", 2015, equation 10: N(0, 2 / fan_in); torch's gains elsewhere."""
    for weight, deviation in deviations(make()):
        assert deviation == pytest.approx(math.sqrt(gain / weight[0].numel()), rel=0.06)


@pytest.mark.parametrize("make", [partial(VGG, initialization="glorot"), partial(Xception, initialization="glorot")])
def test_convolutions_start_as_glorot_draws_them(make: Callable[[], ImageClassifier]) -> None:
    for weight, deviation in deviations(make()):
        fans = weight[0].numel() + len(weight) * weight[0, 0].numel()
        assert deviation == pytest.approx(math.sqrt(2 / fans), rel=0.06)


def test_published_nets_of_raw_pixels_and_nin_start_from_the_deviations_of_their_papers() -> None:
    assert all(deviation == pytest.approx(0.05, rel=0.06) for _, deviation in deviations(NiN.published()))
    zfnet = ZFNet.published(num_classes=10, image_size=64)
    assert all(deviation == pytest.approx(0.01, rel=0.06) for _, deviation in deviations(zfnet))
    assert not any(p.any() for p in zfnet.parameters() if p.dim() == 1)


@pytest.mark.parametrize(
    ("make", "shares"),
    [
        (AlexNet.published, [0.5, 0.5]),  # section 4.2
        (ZFNet.published, [0.5, 0.5]),  # section 3
        (NiN.published, [0.5, 0.5]),  # between the mlpconv layers
        (VGG.published, [0.5, 0.5]),  # section 3.1
        (GoogLeNet.published, [0.4, 0.7, 0.7]),  # Table 1 and section 5
        (Xception.published, [0.5]),  # section 4.3
        *((make, [0.25, 0.25]) for make in (partial(cls, dropout=0.25) for cls in (AlexNet, ZFNet, NiN, VGG))),
        (partial(GoogLeNet, dropout=0.25), [0.25, 0.7, 0.7]),
        (partial(Xception, dropout=0.25), [0.25]),
    ],
)
def test_net_drops_what_its_paper_says(make: Callable[[], ImageClassifier], shares: list[float]) -> None:
    assert dropped(on_meta(make)[0]) == shares


@pytest.mark.parametrize("make", [NiN, VGG, GoogLeNet])
def test_batch_normalization_stands_between_each_convolution_and_its_relu(make: Callable[[], ImageClassifier]) -> None:
    modules = leaves(on_meta(make)[0])
    places = [place for place, module in enumerate(modules) if isinstance(module, nn.BatchNorm2d)]
    assert places
    for place in places:
        assert isinstance(modules[place - 1], nn.Conv2d)
        assert isinstance(modules[place + 1], nn.ReLU)


@pytest.mark.parametrize("make", [ResNet, MobileNet, Xception])
def test_stem_ends_with_a_relu(make: Callable[[], ImageClassifier]) -> None:
    stem: Any = make().eval().features
    assert stem[0](torch.rand(2, 1, 28, 28) * 2 - 1).min() == 0
