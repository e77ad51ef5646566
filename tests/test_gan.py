"""The GANs' loop: which net moves in which step, the losses by hand, what a step is, exact resuming, divergence."""

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from command_line import PLAIN, checkpoint_of, only_run, results_of, run, run_well
from conftest import flat, model_class, quick, small_run
from gans import GANS, SaveAt, Times, gan_run, softplus
from lightning import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_step import NO_CALLBACKS
from torch import Tensor, nn

from datamodules.contract import DivergenceError
from gan.adversarial import GAN
from gan.networks import MLP
from gan.vanilla import VanillaGAN

LOSSES = ("discriminator_loss", "generator_loss")
WITH_THE_FIRST_LOSSES = [name for name in GANS if all(vars(GAN)[f] is getattr(model_class(name), f) for f in LOSSES)]


class Moment(NamedTuple):
    """Both nets as they are before a step of `whose` optimizer."""

    whose: str
    generator: Tensor
    discriminator: Tensor


class Moments(Callback):
    """Both nets before every step of an optimizer, and at the end."""

    def __init__(self) -> None:
        self.seen: list[Moment] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self._look(pl_module, "generator" if optimizer is trainer.optimizers[0] else "discriminator")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(pl_module, "")

    def _look(self, model: LightningModule, whose: str) -> None:
        assert isinstance(model, GAN)
        self.seen.append(Moment(whose, flat(model.generator), flat(model.discriminator)))

    def count(self, whose: str) -> int:
        return sum(moment.whose == whose for moment in self.seen)


@pytest.mark.parametrize("name", GANS)
def test_samples_are_images_between_minus_one_and_one(name: str) -> None:
    model, data, trainer = gan_run(name)
    trainer.fit(model, data)
    with torch.no_grad():
        samples = model(model.latents(64))
    assert samples.shape == (64, 1, 28, 28)
    assert -1 <= samples.min() < samples.max() <= 1


@pytest.mark.parametrize("name", GANS)
def test_a_step_of_one_net_leaves_the_other_alone(name: str) -> None:
    model, data, trainer = gan_run(name, "model.discriminator_steps=2", "trainer.max_epochs=2")
    moments = Moments()
    trainer.callbacks.append(moments)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    assert {moment.whose for moment in moments.seen} == {"generator", "discriminator", ""}
    for before, after in pairwise(moments.seen):
        assert torch.equal(before.generator, after.generator) == (before.whose == "discriminator")
        assert torch.equal(before.discriminator, after.discriminator) == (before.whose == "generator")


@pytest.mark.parametrize("name", WITH_THE_FIRST_LOSSES)
def test_losses_are_those_of_the_first_paper(name: str) -> None:
    model, data, _ = gan_run(name)
    model.eval()
    assert data.train_split is not None
    real = data.transform(data.train_split.images)
    with torch.no_grad():
        fake = model(model.latents(len(real)))
        model.discriminator = nn.Sequential(model.discriminator, Times(2 / model.discriminator(real).std().item()))
        real_logits, fake_logits = model.discriminator(real), model.discriminator(fake)
        discriminator_loss, generator_loss = model.discriminator_loss(real, fake), model.generator_loss(real, fake)
        model.saturating = True
        saturating_loss = model.generator_loss(real, fake)
    assert discriminator_loss.item() == pytest.approx(
        softplus(-real_logits).mean() + softplus(fake_logits).mean(), rel=1e-5
    )
    assert generator_loss.item() == pytest.approx(softplus(-fake_logits).mean(), rel=1e-5)
    assert saturating_loss.item() == pytest.approx(-softplus(fake_logits).mean(), rel=1e-5)


def test_losses_equal_numbers_worked_out_by_hand() -> None:
    """Images of one pixel, which is at once the discriminator's logit; -log sigmoid(0, 2) = 0.6931, 0.1269."""
    real, fake = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)
    model = GAN(nn.Identity(), nn.Flatten(0))
    saturating = GAN(nn.Identity(), nn.Flatten(0), saturating=True)
    assert model.discriminator_loss(real, fake).item() == pytest.approx((0.693147 + 0.126928) / 2 + 0.813262, abs=1e-5)
    assert model.generator_loss(real, fake).item() == pytest.approx((1.313262 + 0.313262) / 2, abs=1e-5)
    assert saturating.generator_loss(real, fake).item() == pytest.approx(-0.813262, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "discriminator_steps", "generator_steps"),
    [*((name, 2, 3) for name in GANS), ("gan", 1, 6), ("gan", 4, 1), ("unrolled_gan", 4, 1)],
)
def test_global_step_counts_generator_steps(name: str, discriminator_steps: int, generator_steps: int) -> None:
    """Two epochs of three batches: a round of discriminator steps may go over the end of an epoch."""
    model, data, trainer = gan_run(name, f"model.discriminator_steps={discriminator_steps}", "trainer.max_epochs=2")
    moments = Moments()
    trainer.callbacks.append(moments)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    assert trainer.global_step == moments.count("generator") == generator_steps
    assert moments.count("discriminator") == 6
    board = EventAccumulator(trainer.default_root_dir).Reload()
    for loss in LOSSES:
        assert [event.step for event in board.Scalars(f"train/{loss}")] == list(range(1, generator_steps + 1))


@pytest.mark.parametrize("name", ["gan", "minibatch_gan", "wgan_gp", "unrolled_gan"])
def test_generator_takes_several_steps_on_new_samples(name: str) -> None:
    overrides = ("model.generator_steps=3", "model.discriminator_steps=1", "trainer.max_epochs=-1")
    model, data, trainer = gan_run(name, *overrides, "trainer.max_steps=9")
    moments, weights = Moments(), [parameter.clone() for parameter in model.generator.parameters()]
    trainer.callbacks.append(moments)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    assert trainer.global_step == moments.count("generator") == 9
    assert moments.count("discriminator") == 3
    assert not any(map(torch.equal, weights, model.generator.parameters()))
    board = EventAccumulator(trainer.default_root_dir).Reload()
    for loss in LOSSES:
        assert [event.step for event in board.Scalars(f"train/{loss}")][-1] == 9


def test_steps_that_end_within_a_round_are_refused() -> None:
    arguments = ("model=gan", "data=mnist_5k", "model.generator_steps=3", "trainer.max_epochs=-1")
    outcome = run(*arguments, "trainer.max_steps=8", "trainer.accelerator=cpu")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith("Error: trainer.max_steps=8: must be a multiple of model.generator_steps=3")


@pytest.mark.parametrize("name", GANS)
def test_nothing_is_logged_where_nobody_wants_it(name: str) -> None:
    model, data, trainer = gan_run(name, "trainer.log_every_n_steps=0", "~callbacks.learning_rate")
    trainer.fit(model, data)
    assert trainer.global_step == 3
    assert EventAccumulator(trainer.default_root_dir).Reload().Tags()["scalars"] == []


@pytest.mark.extended
@pytest.mark.parametrize("name", GANS)
def test_max_steps_means_generator_steps(name: str) -> None:
    overrides = ("model.discriminator_steps=2", "trainer.max_epochs=-1", "trainer.max_steps=4")
    model, data, trainer = gan_run(name, *overrides)
    moments = Moments()
    trainer.callbacks.append(moments)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    assert (moments.count("generator"), moments.count("discriminator")) == (4, 8)


@pytest.mark.parametrize("name", GANS)
def test_every_step_draws_new_latents(name: str) -> None:
    model, data, trainer = gan_run(name, "model.discriminator_steps=3")
    drawn: list[Tensor] = []
    model.generator.register_forward_pre_hook(lambda net, inputs: drawn.append(inputs[0]) if net.training else None)
    trainer.fit(model, data)
    first_numbers = [latents[0, 0].item() for latents in drawn]
    assert len(first_numbers) == 4  # three of the discriminator, one of the generator
    assert len(set(first_numbers)) == 4


@pytest.mark.parametrize("name", GANS)
def test_checkpoint_holds_the_fixed_latents(name: str) -> None:
    model, data, trainer = gan_run(name)
    latents = model.fixed_latents.clone()
    trainer.fit(model, data)
    checkpoint = torch.load("checkpoints/last.ckpt", weights_only=True)
    assert torch.equal(checkpoint["state_dict"]["fixed_latents"], latents)
    assert torch.equal(model.fixed_latents, latents)


# within an epoch, at its end, within the discriminator's steps, after a round of several steps of the generator
@pytest.mark.extended
@pytest.mark.parametrize(("batches", "steps"), [(2, (1, 1)), (3, (1, 1)), (1, (2, 1)), (1, (1, 3))])
@pytest.mark.parametrize("name", GANS)
def test_a_resumed_run_ends_as_one_that_was_never_stopped(name: str, batches: int, steps: tuple[int, int]) -> None:
    rounds = (f"model.discriminator_steps={steps[0]}", f"model.generator_steps={steps[1]}")
    overrides = (*rounds, "trainer.max_epochs=2")
    model, data, trainer = gan_run(name, *overrides)
    trainer.callbacks.append(SaveAt(batches))  # type: ignore[attr-defined]
    trainer.fit(model, data)
    resumed, data, second_trainer = gan_run(name, *overrides)
    second_trainer.fit(resumed, data, ckpt_path="stopped.ckpt", weights_only=True)
    assert second_trainer.global_step == trainer.global_step
    ends = zip(model.state_dict().items(), resumed.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(value, same) for (name, value), (other, same) in ends)


@pytest.mark.parametrize("name", GANS)
def test_a_last_batch_of_one_image_is_left_out(name: str) -> None:
    model, data, trainer = gan_run(name, "model/network=dcgan", "data.batch_size=19", "trainer.max_epochs=2")
    trainer.fit(model, data)
    assert trainer.global_step == 2  # 20 images: 19 and 1, twice
    assert flat(model).isfinite().all()


def test_batches_of_one_image_are_refused() -> None:
    model, data, trainer = gan_run("gan", "model/network=dcgan", "data.batch_size=1")
    with pytest.raises(ValueError, match="batch_size must give each device at least 2 samples"):
        trainer.fit(model, data)


@pytest.mark.parametrize("argument", ["latent_dim", "discriminator_steps", "generator_steps"])
def test_a_count_below_one_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} .*0"):
        GAN(nn.Identity(), nn.Flatten(0), **{argument: 0})  # type: ignore[arg-type]


class BreakNet(Callback):
    """Makes a net's weights infinite before a given batch."""

    def __init__(self, net: str, batch: int) -> None:
        self.net = net
        self.batch = batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            for parameter in getattr(pl_module, self.net).parameters():
                parameter.data.fill_(float("inf"))


@pytest.mark.extended
@pytest.mark.parametrize("log_every", [1, 2, 0])
@pytest.mark.parametrize("net", ["generator", "discriminator"])
@pytest.mark.parametrize("name", ["gan", "wgan_gp", "cgan"])
def test_a_run_that_diverges_stops_and_names_the_net_and_the_step(name: str, net: str, log_every: int) -> None:
    often = ("callbacks.evaluation.every_n_epochs=1", "callbacks.evaluation.count=10", "trainer.max_epochs=3")
    model, data, trainer = gan_run(name, *often, f"trainer.log_every_n_steps={log_every}")
    trainer.callbacks.append(BreakNet(net, batch=5))  # type: ignore[attr-defined]
    with pytest.raises(DivergenceError) as caught:
        trainer.fit(model, data)
    assert (caught.value.what, caught.value.step) == (net, 5)
    checkpoint = torch.load("checkpoints/last.ckpt", weights_only=True)  # of the first epoch
    assert all(weight.isfinite().all() for weight in checkpoint["state_dict"].values())


def test_a_gan_of_infinite_weights_is_neither_scored_nor_saved() -> None:
    model, data, trainer = gan_run("gan", "callbacks.evaluation.final_count=10")
    trainer.fit(model, data)
    model.generator[0][0].weight.data.fill_(float("nan"))  # type: ignore[index]
    with pytest.raises(DivergenceError):
        trainer.validate(model, data, verbose=False)
    with pytest.raises(DivergenceError):
        trainer.save_checkpoint("broken.ckpt")
    assert not Path("broken.ckpt").exists()


def test_run_whose_generator_has_not_moved_yet_ends_with_a_checkpoint() -> None:
    """WGAN's critic takes the first 100 steps alone; ModelCheckpoint saves nothing before a counted step."""
    run_well("model=wgan", "model.network.width=0.1", *PLAIN, "trainer.max_epochs=1", "callbacks.evaluation.count=20")
    assert checkpoint_of(only_run())["global_step"] == 0
    assert results_of(only_run())["status"] == "finished"


class CountsItsSteps(VanillaGAN):
    """A GAN whose losses are the number of generator steps before."""

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return 0 * self.discriminator(fake).sum() + float(self.global_step)

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return self.discriminator_loss(real, fake)


@pytest.mark.parametrize(("epochs", "mean"), [(1, 1.0), (2, 4.0)])  # of steps 0, 1, 2 and 3, 4, 5
@pytest.mark.parametrize("stopped", [False, True])
def test_losses_of_a_run_are_means_over_its_last_epoch(epochs: int, mean: float, stopped: bool) -> None:
    budget = ("model=gan", *quick("gan"), *NO_CALLBACKS, f"trainer.max_epochs={epochs}")
    _, data, trainer = small_run(*budget)
    trainer.callbacks.append(SaveAt(3 * epochs - 1))  # type: ignore[attr-defined]
    trainer.fit(CountsItsSteps(network=MLP(width=0.1)), data)
    if stopped:
        _, data, trainer = small_run(*budget)
        trainer.fit(CountsItsSteps(network=MLP(width=0.1)), data, ckpt_path="stopped.ckpt", weights_only=True)
    assert trainer.callback_metrics["train/generator_loss"].item() == pytest.approx(mean)
    assert trainer.callback_metrics["train/discriminator_loss"].item() == pytest.approx(mean)


def test_latents_are_standard_normal() -> None:
    latents = VanillaGAN(network=MLP(width=0.1)).latents(1000)
    assert latents.mean().item() == pytest.approx(0, abs=0.02)
    assert latents.std().item() == pytest.approx(1, rel=0.02)
    assert latents.flatten().square().square().mean().item() == pytest.approx(3, rel=0.05)
