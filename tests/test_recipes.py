"""The options of model/optimizer and model/lr_scheduler: each trains, and none inherits what another one sets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CONF, compose, models_of, small_run
from gans import gan_run
from hydra.utils import get_class, instantiate
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from torch import nn
from torch.optim import SGD

from classic_cnn.classifier import ImageClassifier
from rnn.esn import EchoStateNetwork

OPTIMIZERS = sorted(file.stem for file in (CONF / "model" / "optimizer").glob("*.yaml"))
SCHEDULES = sorted(file.stem for file in (CONF / "model" / "lr_scheduler").glob("*.yaml"))
TRAINED = [name for name in models_of(ImageClassifier) if name not in models_of(EchoStateNetwork)]


def learning_rates(name: str, epochs: int) -> list[float]:
    """The rate in each epoch when nothing is learned and the rate starts at 1."""
    cfg = compose(f"model/lr_scheduler={name}", f"trainer.max_epochs={epochs}")
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = SGD([parameter], lr=1.0)
    schedule = instantiate(cfg.model.lr_scheduler)(optimizer)
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
        ("steps", [1.0] * 5 + [0.1] * 3 + [0.01] * 2),
        ("decay", [1.0] * 8 + [0.96] * 8 + [0.96**2] * 4),
        ("polynomial", [(1 - epoch / 20) ** 0.5 for epoch in range(20)]),
        ("xception", [1.0, 1.0, 0.94, 0.94, 0.94**2]),
        ("cosine", [0.5 * (1 + np.cos(np.pi * epoch / 20)) for epoch in range(20)]),
    ],
)
def test_schedule_is_the_papers(name: str, expected: list[float]) -> None:
    assert learning_rates(name, len(expected)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "overrides", [("model=published/resnet",), ("model=resnet", "model/lr_scheduler=steps")], ids=str
)
def test_steps_come_before_the_last_epoch(overrides: tuple[str, ...]) -> None:
    cfg = compose(*overrides)
    assert max(cfg.model.lr_scheduler.milestones) < cfg.trainer.max_epochs


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_trains_and_its_checkpoint_is_plain(name: str, tmp_path: Path) -> None:
    model, data, trainer = small_run(f"model/lr_scheduler={name}", "~callbacks.plots", folder=tmp_path)
    trainer.fit(model, data)
    schedules = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["lr_schedulers"]
    assert len(schedules) == (0 if name == "none" else 1)


@pytest.mark.parametrize(
    ("model", "name"), [*((model, "adam") for model in TRAINED), *(("googlenet", name) for name in OPTIMIZERS)]
)
def test_chosen_optimizer_inherits_nothing_from_the_models_own(model: str, name: str) -> None:
    option = OmegaConf.load(CONF / "model" / "optimizer" / f"{name}.yaml")
    assert compose(f"model={model}", f"model/optimizer={name}").model.optimizer == option


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_has_its_own_rate(name: str) -> None:
    option = OmegaConf.load(CONF / "model" / "optimizer" / f"{name}.yaml")
    assert issubclass(get_class(option._target_), torch.optim.Optimizer)
    optimizer = instantiate(option)([nn.Parameter(torch.zeros(1))])
    assert optimizer.param_groups[0]["lr"] == option.lr


def test_learning_rates_of_both_nets_follow_the_schedule() -> None:
    rates: list[list[float]] = []

    class Rates(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])

    model, data, trainer = gan_run("unrolled_gan", "model/lr_scheduler=cosine", "trainer.max_epochs=2")
    trainer.callbacks.append(Rates())  # type: ignore[attr-defined]
    trainer.fit(model, data)
    assert rates == [pytest.approx([1e-3, 1e-4]), pytest.approx([0.5e-3, 0.5e-4])]


def test_schedule_that_waits_for_a_loss_is_refused() -> None:
    model, data, trainer = gan_run("gan", "model/lr_scheduler=plateau")
    with pytest.raises(ValueError, match="lr_scheduler must not be ReduceLROnPlateau"):
        trainer.fit(model, data)
