"""Samples of a GAN, from the generator in training or the average of its weights, which leave no trace in either."""

from typing import Any

import pytest
import torch
from conftest import flat
from gans import GANS, SaveAt, gan_run
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from gan.adversarial import GAN
from gan.cgan import CGAN
from gan.networks import DCGAN, MLP
from gan.vanilla import VanillaGAN


@pytest.mark.extended
@pytest.mark.parametrize("network", ["mlp", "dcgan"])
@pytest.mark.parametrize("name", GANS)
def test_samples_leave_the_model_as_it_was(name: str, network: str) -> None:
    model, _, _ = gan_run(name, f"model/network={network}")
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = model.sample(13)
    assert images.shape == (13, 1, 28, 28)
    assert not images.requires_grad
    assert model.generator.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_conditional_samples_go_through_the_classes_where_none_are_asked_for() -> None:
    model = CGAN(network=MLP(width=0.1))
    asked, latents = torch.arange(12) % 10, torch.randn(12, 100)
    model.latents = lambda count: latents  # type: ignore[method-assign]
    assert torch.equal(model.sample(12), model.sample(12, asked))
    assert not torch.equal(model.sample(12), model.sample(12, asked.flip(0)))
    with pytest.raises(ValueError, match="3 labels for 12 samples"):
        model.sample(12, torch.arange(3))
    with pytest.raises(ValueError, match="VanillaGAN has no classes"):
        VanillaGAN(network=MLP(width=0.1)).sample(2, torch.arange(2))


class Weights(Callback):
    """The generator's weights after each batch."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, GAN)
        self.seen.append(flat(pl_module.generator))


@pytest.mark.parametrize("name", ["gan", "wgan_gp"])
def test_averaged_generator_is_the_moving_average_and_makes_the_samples(name: str) -> None:
    model, data, trainer = gan_run(name, "model.ema_decay=0.7", "model.optimizer.lr=0.01")
    weights = Weights()
    trainer.callbacks.append(weights)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    average, *others = weights.seen
    for updates, later in enumerate(others, start=1):
        decay = min(0.7, (1 + updates) / (10 + updates))
        average = decay * average + (1 - decay) * later
    assert model.averaged_generator is not None
    assert torch.allclose(flat(model.averaged_generator), average, atol=1e-6)
    latents = torch.randn(5, 100)
    images = model.generate(latents)
    model.eval()
    with torch.no_grad():
        averaged, trained = model.averaged_generator(latents), model(latents)
    assert torch.equal(images, averaged)
    assert torch.equal(model.generate(latents, averaged=False), trained)
    assert not torch.equal(averaged, trained)


@pytest.mark.extended
@pytest.mark.parametrize("name", ["gan", "cgan"])
def test_averaged_generator_normalizes_by_statistics_of_its_own(name: str) -> None:
    """Those of the weights in training are far off while these still move: here they are of other weights."""
    model, _, _ = gan_run(name, "model/network=dcgan", "model.ema_decay=0.9")
    assert model.averaged_generator is not None
    for weight in model.averaged_generator.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    latents, before = torch.randn(2000, 100), torch.get_rng_state()
    images = model.generate(latents)
    assert torch.equal(torch.get_rng_state(), before)
    by_batch = model.averaged_generator.train()(latents)  # normalized by its own mean and variance
    assert (images - by_batch).square().mean() < 0.02 * by_batch.var()
    other, _, _ = gan_run(name, "model/network=dcgan", "model.ema_decay=0.9")
    other.generate(latents)
    other.load_state_dict(model.state_dict())  # whose statistics `by_batch` has moved
    assert torch.equal(other.generate(latents), images)


def test_looking_at_an_averaged_generator_is_cheap_and_changes_no_sample() -> None:
    """The sixty frames of a run's GIF would each pass 5,000 latents through it, longer than many a training."""
    looked, measured = (gan_run("gan", "model/network=dcgan", "model.ema_decay=0.9")[0] for _ in range(2))
    assert looked.averaged_generator is not None
    rows: list[int] = []
    looked.averaged_generator.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    looked.fixed_samples()
    assert sum(rows) <= 600
    latents = torch.randn(64, 100)
    assert torch.equal(looked.generate(latents), measured.generate(latents))
    rows.clear()
    looked.fixed_samples()
    assert sum(rows) == 64  # the better statistics are there


@pytest.mark.parametrize("name", ["cgan", "dragan"])
def test_run_with_an_averaged_generator_resumes_exactly(name: str) -> None:
    overrides = ("model.ema_decay=0.9", "trainer.max_epochs=2")
    model, data, trainer = gan_run(name, *overrides)
    trainer.callbacks.append(SaveAt(2))  # type: ignore[attr-defined]
    trainer.fit(model, data)
    resumed, data, second_trainer = gan_run(name, *overrides)
    second_trainer.fit(resumed, data, ckpt_path="stopped.ckpt", weights_only=True)
    ends = zip(model.state_dict().items(), resumed.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(value, same) for (name, value), (other, same) in ends)


def test_fixed_samples_of_a_conditional_gan_are_a_row_of_each_class_from_the_same_latents() -> None:
    model = CGAN(network=MLP(width=0.1))
    read: list[tuple[Tensor, Tensor]] = []
    model.generator.register_forward_pre_hook(lambda _, inputs: read.append(inputs))
    model.fixed_samples()
    [(latents, labels)] = read
    assert labels.tolist() == [label for label in range(10) for _ in range(8)]
    assert all(torch.equal(row, latents[:8]) for row in latents.split(8))
    assert len(latents.unique(dim=0)) == 8


def test_statistics_of_an_averaged_generator_come_from_5_000_latents() -> None:
    model = VanillaGAN(network=DCGAN(0.05), ema_decay=0.9)
    assert model.averaged_generator is not None
    rows: list[int] = []
    model.averaged_generator.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    model.generate(torch.randn(64, 100))
    assert rows == [500] * 10 + [64]
