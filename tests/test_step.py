"""What a training step costs and in which precision it computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import PLAIN, run_well
from conftest import compose, model_class, models_of, quick, small_run
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from classic_cnn.classifier import ImageClassifier
from datamodules.in_memory import seed_generators
from datamodules.mnist import MNIST5k
from gan.adversarial import GAN
from gan.networks import MLP
from gan.vanilla import VanillaGAN
from tasks import train
from tasks.compiling import check_compile
from tasks.config import ConfigError

NO_CALLBACKS = ("~callbacks.plots", "~callbacks.evaluation", "~callbacks.collapse_watch")
CPU = torch.device("cpu")


def test_seed_gives_the_numbers_of_manual_seed() -> None:
    seed_generators(1_000_010, CPU)
    ours = torch.rand(5)
    torch.manual_seed(1_000_010)
    assert torch.equal(ours, torch.rand(5))


@pytest.mark.parametrize(("reuse", "passes"), [(False, 6), (True, 3)])
def test_reused_fakes_save_a_pass_of_the_generator_in_each_step(reuse: bool, passes: int) -> None:
    net, data, trainer = small_run("model=gan", *quick("gan"), f"model.reuse_fakes={reuse}", *NO_CALLBACKS)
    calls: list[torch.Tensor] = []
    before = [parameter.clone() for parameter in net.parameters()]
    assert isinstance(net, GAN)
    net.generator.register_forward_hook(lambda module, inputs, output: calls.append(output))
    trainer.fit(net, data)
    in_training = [output for output in calls if len(output) in (8, 4)]
    assert len(in_training) == passes
    assert trainer.global_step == 3
    assert not any(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


@pytest.mark.extended
@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize("model", ["lenet", "esn", "clockwork_rnn", "gan", "wgan_gp"])
def test_net_trains_in_another_precision(model: str, precision: str) -> None:
    dropped = ("~callbacks.evaluation", "~callbacks.collapse_watch") if "gan" in model else ()
    net, data, trainer = small_run(f"model={model}", *quick(model), *dropped, f"trainer.precision={precision}")
    trainer.fit(net, data)
    assert all(parameter.isfinite().all() for parameter in net.parameters())
    assert trainer.current_epoch == 1


class Constant(VanillaGAN):
    """A GAN whose losses are always 1.25, the sum of which stands still in bfloat16."""

    def discriminator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return 0 * self.discriminator(fake).sum() + 1.25

    def generator_loss(self, real: Tensor, fake: Tensor, *labels: Tensor) -> Tensor:
        return self.discriminator_loss(real, fake)


class LateInTheEpoch(Callback):
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            pl_module.epoch_losses, pl_module.epoch_steps = torch.full((2,), 550 * 1.25), 550  # type: ignore[assignment]


def test_sum_of_an_epochs_losses_loses_no_digits_in_bfloat16() -> None:
    _, data, trainer = small_run("model=gan", *quick("gan"), *NO_CALLBACKS, "trainer.precision=bf16-true")
    trainer.callbacks.append(LateInTheEpoch())  # type: ignore[attr-defined]
    trainer.fit(Constant(network=MLP(width=0.1)), data)
    assert trainer.callback_metrics["train/generator_loss"].item() == 1.25


@pytest.mark.parametrize(
    ("model", "average"),
    [("lenet", "callbacks=ema"), ("gan", "model.ema_decay=0.999"), ("dragan", "model.ema_decay=0.5")],
)
def test_average_of_weights_in_16_bits_is_refused(model: str, average: str) -> None:
    """0.999 of an average and 0.001 of the weights is the average again."""
    small_run(f"model={model}", average, *quick(model), "trainer.precision=bf16-mixed")
    with pytest.raises(ConfigError, match=r"trainer\.precision=bf16-true.*ema"):
        small_run(f"model={model}", average, *quick(model), "trainer.precision=bf16-true")


def can_be_compiled(name: str) -> bool:
    net, _, _ = small_run(f"model={name}", *quick(name))
    if isinstance(net, GAN):
        return not net.has_double_backward
    return isinstance(net, ImageClassifier) and net.automatic_optimization


@pytest.mark.parametrize("name", ["dragan", "esn", "unrolled_gan", "wgan_gp"])
def test_what_torch_cannot_compile_is_refused(name: str) -> None:
    assert not can_be_compiled(name)
    net, _, _ = small_run(f"model={name}", *quick(name))
    with pytest.raises(ConfigError) as refusal:
        check_compile(net, CPU)
    assert refusal.value.key == "compile"


def test_every_gan_says_whether_its_loss_is_made_of_gradients() -> None:
    classes = map(model_class, models_of(GAN))
    marked = {cls.__name__ for cls in classes if issubclass(cls, GAN) and cls.has_double_backward}
    assert marked == {"DRAGAN", "UnrolledGAN", "WGANGP"}


@pytest.mark.parametrize(
    ("has_them", "precision", "said"), [(0, "bf16-mixed", 1), (1, "bf16-mixed", 0), (0, "32-true", 0)]
)
def test_a_processor_without_bfloat16_says_that_it_will_be_slow(
    has_them: int, precision: str, said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "has_bf16_instructions", lambda: bool(has_them))
    outcome = run_well("model=lenet", *PLAIN, "trainer.limit_train_batches=1", f"trainer.precision={precision}")
    assert outcome.out.count("float32 would be faster") == said


def test_reuse_is_off_unless_it_is_asked_for() -> None:
    assert not any(compose(f"model={name}").model.reuse_fakes for name in models_of(GAN))


def test_predicting_reads_the_data_set_only_if_its_transform_is_fitted_to_it(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.new("L", (28, 28), 0)
    image.paste(255, (12, 4, 16, 24))
    image.save("digit.png")
    reads: list[MNIST5k] = []
    read = MNIST5k.read

    def counted(data: MNIST5k) -> None:
        reads.append(data)
        read(data)

    monkeypatch.setattr(MNIST5k, "read", counted)
    command = ("task=predict", f"ckpt_path={trained}/checkpoints/best.ckpt", "input=digit.png")
    run_well(*command)
    assert not reads
    run_well(*command, "data.normalize=pixel_mean")
    assert len(reads) == 1
