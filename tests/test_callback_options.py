"""The options of the group callbacks: each does what it says, alone and beside others, and a mistake is one line."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import PLAIN, checkpoint_of, only_run, results_of, run, run_well
from conftest import CONF, quick, small_run
from lightning import Callback, LightningModule, Trainer

OPTIONS = sorted(file.stem for file in (CONF / "callbacks").glob("*.yaml"))
STOPPING = ("model=lenet", *PLAIN, "model/lr_scheduler=none", "model.optimizer.lr=0", "trainer/logger=none")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run whose net does not learn and whose patience is one validation, and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("stopped"))
        early = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "trainer.max_epochs=4")
        out = run_well(*STOPPING, *early).out
        return only_run(), out


def test_early_stopping_says_where_and_why(stopped: tuple[Path, str]) -> None:
    folder, out = stopped
    assert results_of(folder)["epochs"] == 2
    assert results_of(folder)["stopped_early"].startswith("after epoch 2: val/accuracy ")
    assert "after epoch 2: val/accuracy" in out


@pytest.mark.extended
def test_resumed_run_that_stopped_early_trains_on_only_with_more_patience(stopped: tuple[Path, str]) -> None:
    folder, _ = stopped
    last = f"ckpt_path={folder}/checkpoints/last.ckpt"
    before = checkpoint_of(folder)["global_step"]
    assert "after epoch 2: val/accuracy" in run_well(last).out
    assert checkpoint_of(folder)["global_step"] == before
    run_well(last, "callbacks.early_stopping.patience=2")
    assert results_of(folder)["stopped_early"].startswith("after epoch 3: ")
    refused = run(last, "callbacks.early_stopping.min_delta=0.1")
    assert (refused.status, refused.err.count("\n")) == (2, 1)


def logged(name: str) -> list[float]:
    [file] = Path().glob("csv_0/metrics.csv")
    return [float(row[name]) for row in csv.DictReader(file.read_text().splitlines()) if row.get(name)]


class LastNorms(Callback):
    """The norms of the gradients that the last batch has left, of the net and of its parts."""

    def __init__(self) -> None:
        self.norms: dict[str, float] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        for name, part in (("", pl_module), *pl_module.named_children()):
            gradients = [parameter.grad.flatten() for parameter in part.parameters() if parameter.grad is not None]
            self.norms[name] = torch.cat(gradients).norm().item() if gradients else 0.0


def fit(*overrides: str) -> dict[str, float]:
    quiet = ("callbacks=gradient_norm", "trainer/logger=csv", "~callbacks.plots")
    model, data, trainer = small_run(*quiet, *overrides)
    reference = LastNorms()
    trainer.callbacks.append(reference)  # type: ignore[attr-defined]
    trainer.fit(model, datamodule=data)
    return reference.norms


def test_gradient_norm_is_that_of_all_gradients_on_logged_steps() -> None:
    norms = fit("model=lenet", "trainer.log_every_n_steps=2", "trainer.max_epochs=2", "trainer.gradient_clip_val=100")
    assert len(logged("train/gradient_norm")) == 3  # of 6 steps
    assert logged("train/gradient_norm")[-1] == pytest.approx(norms[""], rel=1e-5)


def test_gradient_norm_of_a_gan_is_that_of_each_net() -> None:
    norms = fit("model=gan", *quick("gan"), "trainer.log_every_n_steps=1", "callbacks.evaluation=null")
    for net in ("generator", "discriminator"):
        assert logged(f"train/{net}_gradient_norm")[-1] == pytest.approx(norms[net], rel=1e-5)


def test_a_gans_norms_and_rates_are_logged_once_at_the_step_of_its_losses() -> None:
    fit(
        "model=wgan",
        *quick("wgan"),
        "model.discriminator_steps=3",
        "model.warm_up_steps=null",
        "trainer.max_epochs=6",
        "trainer.log_every_n_steps=2",
    )
    rows = list(csv.DictReader(Path("csv_0/metrics.csv").read_text().splitlines()))
    expected = [row["step"] for row in rows if row["train/generator_loss"]]
    assert expected
    for name in (f"train/{net}_{what}" for net in ("generator", "discriminator") for what in ("gradient_norm", "loss")):
        assert [row["step"] for row in rows if row[name]] == expected
    for net in ("generator", "discriminator"):
        assert logged(f"lr-{net}") == [5e-5] * len(expected)


@pytest.mark.parametrize("model", [("model=lenet",), ("model=esn", "model.units=50")])
def test_all_options_together_end_well(model: tuple[str, ...]) -> None:
    options = ",".join(option for option in OPTIONS if option != "ema" or model == ("model=lenet",))
    run_well(*model, *PLAIN, f"callbacks=[{options}]", "trainer.max_epochs=1")
    assert results_of(only_run())["callbacks"] == f"[{options}]"


@pytest.mark.parametrize(
    ("mistake", "part"),
    [
        (("callbacks=early_stoping",), "early_stopping"),
        (("callbacks=[gradient_norm,early_stoping]",), "early_stopping"),
        (("callbacks=early_stopping", "callbacks.early_stopping.patience=-1"), "patience=-1"),
        (("callbacks=early_stopping", "callbacks.early_stopping.monitor=val/acc"), "val/accuracy"),
        (("callbacks=early_stopping", "model=gan"), "callbacks.early_stopping.monitor"),
        (("callbacks.early_stopping.patience=3",), "callbacks=early_stopping"),
        (("callbacks=ema", "model=gan"), "Error: callbacks.ema: averages the weights of classifiers"),
        (("callbacks=ema", "model=esn"), "model.ema_decay"),
        (("callbacks=test_time_augmentation", "model=gan"), "test_time_augmentation: is for classifiers"),
        (
            ("callbacks=test_time_augmentation", "callbacks.test_time_augmentation.views=nine"),
            "callbacks.test_time_augmentation.views=nine",
        ),
        (
            ("callbacks.checkpoint.monitor=null", "callbacks.checkpoint.mode=min"),
            "Error: callbacks.checkpoint: keeps its state",
        ),
    ],
)
def test_mistake_is_one_line(mistake: tuple[str, ...], part: str) -> None:
    outcome = run("model=lenet", *PLAIN, "trainer.max_epochs=1", *mistake)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
    assert part in outcome.err
