"""What each paper changes: losses against numbers by hand or numpy, penalties, schedules, and which net makes a row."""

from typing import Any

import numpy as np
import pytest
import torch
from command_line import PLAIN, run
from gans import Times, gan_run, softplus
from lightning import Callback, LightningModule, Trainer
from nets import dropped
from torch import Tensor, nn

from datamodules.contract import ArgumentError
from gan.cgan import CGAN
from gan.dragan import DRAGAN
from gan.ebgan import EBGAN, pulling_away_term
from gan.mad_gan import MADGAN, Generators
from gan.minibatch_gan import MinibatchDiscrimination, MinibatchGAN
from gan.networks import DCGAN, MLP, NetworkPair, Points, Stacked
from gan.unrolled_gan import UnrolledAdam, UnrolledGAN
from gan.vanilla import VanillaGAN
from gan.wgan import WGAN
from gan.wgan_gp import WGANGP, gradient_penalty

REAL, FAKE = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)  # of one pixel


class Linear(nn.Module):
    """D(x) = w x, a critic whose gradient is w everywhere."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weights


class HalfSquare(nn.Module):
    """D(x) = |x|^2 / 2, a critic whose gradient at x is x."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images.detach()
        return images.flatten(1).square().sum(1) / 2


def random_images(count: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 1, 2, 2), torch.randn(count, 1, 2, 2)


@pytest.mark.parametrize(
    "build",
    [
        lambda: CGAN(network=MLP(0.1)),
        lambda: CGAN(network=DCGAN(0.1)),
        lambda: DRAGAN(network=DCGAN(0.1), num_classes=10),
        lambda: WGANGP(network=DCGAN(0.1), num_classes=10),
        lambda: WGANGP(network=MLP(0.1), num_classes=10),
    ],
)
def test_both_nets_of_a_conditional_gan_read_the_class(build: Any) -> None:
    model = build().eval()
    latents = torch.randn(1, 100).expand(10, -1)
    with torch.no_grad():
        of_classes = model(latents, torch.arange(10))
        of_one = model(latents, torch.full((10,), 3))
        logits = model.discriminator(of_one, torch.arange(10))
    assert len(of_classes.flatten(1).unique(dim=0)) == 10
    assert torch.equal(of_one[0], of_one[9])
    assert len(logits.unique()) == 10


@pytest.mark.parametrize("name", ["dragan", "wgan_gp"])
def test_penalty_of_a_conditional_gan_is_taken_at_the_label_of_each_image(name: str) -> None:
    model, data, trainer = gan_run(name, "model.num_classes=10", "model/network=dcgan")
    read: list[tuple[Tensor, ...]] = []
    model.discriminator.register_forward_pre_hook(lambda net, inputs: read.append(inputs) if net.training else None)
    trainer.fit(model, data)
    penalized = [inputs for inputs in read if inputs[0].is_leaf and inputs[0].requires_grad]
    assert penalized
    labels = {tuple(inputs[1].tolist()) for inputs in read if not inputs[0].requires_grad}
    assert all(tuple(inputs[1].tolist()) in labels for inputs in penalized)


def test_conditional_gan_trains_on_the_labels_of_the_batch() -> None:
    model, data, trainer = gan_run("cgan")
    read: list[tuple[Tensor, ...]] = []
    for net in (model.generator, model.discriminator):
        net.register_forward_pre_hook(lambda net, inputs: read.append(inputs) if net.training else None)
    trainer.fit(model, data)
    assert len(read) == 3 * 5  # fake, real and fake for the discriminator, fake and its logits for the generator
    assert data.train_split is not None
    known = {tuple(image.flatten().tolist()): label for image, label in zip(*data.train_split, strict=True)}
    reals = 0
    for batch in zip(*[iter(read)] * 5, strict=True):
        assert all(torch.equal(inputs[1], batch[0][1]) for inputs in batch)
        pixels = ((batch[1][0] / 2 + 0.5) * 255).round().byte()
        for image, label in zip(pixels, batch[1][1], strict=True):
            assert known[tuple(image.flatten().tolist())] == label
            reals += 1
    assert reals == 20


def test_wgan_losses_are_differences_of_means() -> None:
    model = WGAN(network=DCGAN(0.1))
    model.discriminator = nn.Flatten(0)
    assert model.discriminator_loss(REAL, FAKE).item() == 0 - 1
    assert model.generator_loss(REAL, FAKE + 1).item() == -1
    assert model.extra_metrics["train/wasserstein_estimate"].item() == 1


def test_wgan_critic_takes_100_steps_at_first_and_every_500th_time() -> None:
    steps = [
        WGAN(network=DCGAN(0.1), discriminator_steps=5).discriminator_steps_at(number)
        for number in (0, 24, 25, 499, 500, 501, 1000)
    ]
    assert steps == [100, 100, 5, 5, 100, 5, 100]
    assert WGAN(network=DCGAN(0.1), discriminator_steps=5, warm_up_steps=None).discriminator_steps_at(0) == 5


class Clipped(Callback):
    """Counts the critic's steps before each of the generator's and looks at the critic's largest weight in between."""

    def __init__(self) -> None:
        self.counts = [0]
        self.largest = 0.0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if optimizer is trainer.optimizers[1]:
            self.counts[-1] += 1
            return
        assert isinstance(pl_module, WGAN)
        self.largest = max(self.largest, *(w.abs().max().item() for w in pl_module.discriminator.parameters()))
        self.counts.append(0)


def test_wgan_trains_by_its_schedule_with_weights_within_the_clip() -> None:
    overrides = (
        "model.warm_up_steps=3",
        "model.discriminator_steps=2",
        "model.optimizer.lr=0.01",
        "model.network.width=0.05",
    )
    model, data, trainer = gan_run("wgan", *overrides, "trainer.max_epochs=-1", "trainer.max_steps=28")
    watch = Clipped()
    trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    assert watch.counts == [3] * 25 + [2] * 3 + [0]
    assert watch.largest == pytest.approx(0.01)


def test_gradient_penalty_of_a_linear_critic_is_its_weights_norm() -> None:
    images, _ = random_images()
    assert gradient_penalty(Linear([2.0, 2.0, 2.0, 2.0]), images).item() == pytest.approx((4 - 1) ** 2)
    assert gradient_penalty(Linear([0.6, 0.0, 0.8, 0.0]), images).item() == pytest.approx(0, abs=1e-6)


def test_gradient_penalty_takes_the_norm_of_each_image_by_itself() -> None:
    images, _ = random_images()
    norms = np.linalg.norm(images.flatten(1).numpy(), axis=1)
    assert gradient_penalty(HalfSquare(), images).item() == pytest.approx(((norms - 1) ** 2).mean(), rel=1e-5)


def test_gradient_penalty_pulls_the_critics_slope_to_one() -> None:
    critic = Linear([3.0, 0.0, 4.0, 0.0])  # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|
    gradient_penalty(critic, random_images()[0]).backward()
    assert critic.weights.grad is not None
    assert critic.weights.grad.tolist() == pytest.approx([2 * 4 * 0.6, 0, 2 * 4 * 0.8, 0])


def test_wgan_gp_loss_is_wgans_and_ten_times_the_penalty() -> None:
    model, (real, fake) = WGANGP(network=DCGAN(0.1)), random_images()
    model.discriminator = critic = Linear([1.0, 2.0, 2.0, 0.0])
    distance = (critic(real).mean() - critic(fake).mean()).item()
    assert model.discriminator_loss(real, fake).item() == pytest.approx(-distance + 10 * (3 - 1) ** 2, rel=1e-5)
    assert model.extra_metrics["train/wasserstein_estimate"].item() == pytest.approx(distance, rel=1e-5)
    assert model.generator_loss(real, fake).item() == pytest.approx(-critic(fake).mean().item())


def test_wgan_gp_looks_between_real_and_fake_at_a_place_of_its_own_for_each_pair() -> None:
    model, (real, fake) = WGANGP(network=DCGAN(0.1)), random_images()
    model.discriminator = critic = HalfSquare()
    model.discriminator_loss(real, fake)
    shares = ((critic.seen - fake) / (real - fake)).flatten(1).numpy()  # the penalty comes last
    assert np.ptp(shares, axis=1) == pytest.approx(0, abs=1e-4)
    assert shares.min() > -1e-4
    assert shares.max() < 1 + 1e-4
    assert np.ptp(shares[:, 0]) > 0.1


def test_dragan_loss_is_the_first_papers_and_ten_times_the_penalty_on_logits() -> None:
    model, (real, fake) = DRAGAN(network=DCGAN(0.1)), random_images()
    model.discriminator = net = Linear([1.0, 2.0, 2.0, 0.0])
    with torch.no_grad():
        expected = softplus(-net(real)).mean() + softplus(net(fake)).mean() + 10 * (3 - 1) ** 2
    assert model.discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-5)


def test_dragan_perturbs_by_up_to_half_a_standard_deviation_to_one_side() -> None:
    real = torch.randn(200, 1, 28, 28)
    steps = (DRAGAN(network=DCGAN(0.1)).perturbed(real) - real) / real.std()
    assert -1e-5 < steps.min() < 0.01
    assert 0.45 < steps.max() < 0.5
    assert steps.mean().item() == pytest.approx(0.125, abs=0.01)  # half of half of 0.5


def test_minibatch_features_are_those_of_a_loop() -> None:
    layer, features = MinibatchDiscrimination(7, kernels=4, dim=3), torch.randn(5, 7)
    with torch.no_grad():
        out = layer(features).numpy()
        matrices = (features @ layer.project.weight.T).view(5, 4, 3).numpy()
    assert np.array_equal(out[:, :7], features.numpy())
    for i in range(5):
        for b in range(4):
            distances = [np.abs(matrices[i, b] - matrices[j, b]).sum() for j in range(5) if j != i]
            assert out[i, 7 + b] == pytest.approx(np.exp(-np.array(distances)).sum() - 1, rel=1e-4)


def test_minibatch_layer_is_calibrated_on_the_first_batch_alone() -> None:
    model, data, trainer = gan_run("minibatch_gan", "trainer.max_steps=1")
    assert isinstance(model.discriminator, nn.Sequential)
    layer: Any = model.discriminator[1]
    read: list[Tensor] = []
    layer.register_forward_hook(lambda net, inputs, output: read.append(output.detach()))
    calibrated: list[Tensor] = []
    calibrate = layer.calibrate

    def observed(rows: Tensor) -> None:
        calibrated.append(rows)
        calibrate(rows)

    layer.calibrate = observed
    trainer.fit(model, data)
    assert len(calibrated) == 1
    real = read[0][:, -layer.kernels :]  # what the first step reads first
    assert real.mean(0).abs().max().item() < 1e-4


def test_minibatch_calibration_puts_nearest_rows_at_distance_two() -> None:
    layer, features = MinibatchDiscrimination(7, kernels=4, dim=3), 30 * torch.randn(20, 7)
    layer.calibrate(features)
    with torch.no_grad():
        distances = layer.distances(features).numpy()
        out = layer(features).numpy()
    for b in range(4):
        np.fill_diagonal(distances[b], np.inf)
        assert distances[b].min(1).mean() == pytest.approx(2, rel=1e-4)
    assert out[:, 7:].mean(0) == pytest.approx(0, abs=1e-5)


def test_minibatch_discriminator_tells_copies_of_one_image() -> None:
    net = MinibatchGAN(network=MLP(0.1)).eval().discriminator
    images = torch.rand(8, 1, 28, 28)
    with torch.no_grad():
        assert not torch.allclose(net(images[:1].expand(8, -1, -1, -1))[0], net(images)[0], atol=1e-6)


@pytest.mark.parametrize("network", [MLP(0.1), DCGAN(0.1), Stacked()], ids=lambda pair: type(pair).__name__)
def test_ebgan_losses_are_energies_with_a_margin(network: NetworkPair) -> None:
    model = EBGAN(network=network, margin=25.0).eval()
    real, fake = torch.rand(6, *network.sample_shape) * 2 - 1, torch.rand(6, *network.sample_shape) * 4 - 2
    net = model.discriminator
    with torch.no_grad():
        energies, codes = [], net.encoder(fake).numpy()
        for images in (real, fake):
            off = (net.decoder(net.encoder(images)) - images).numpy()
            energies.append(np.sqrt((off**2).sum((1, 2, 3))))
        losses = model.discriminator_loss(real, fake).item(), model.generator_loss(real, fake).item()
    real_energy, fake_energy = energies
    assert losses[0] == pytest.approx(real_energy.mean() + np.maximum(25 - fake_energy, 0).mean(), rel=1e-5)
    cosines = [
        np.dot(codes[i], codes[j]) / np.linalg.norm(codes[i]) / np.linalg.norm(codes[j])
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    assert losses[1] == pytest.approx(fake_energy.mean() + 0.1 * np.square(cosines).mean(), rel=1e-5)


def test_ebgan_margin_frees_what_lies_beyond_it() -> None:
    model = EBGAN(network=MLP(0.1))
    model.discriminator = nn.Flatten(0)  # type: ignore[assignment]  # the pixel is the energy
    real, fake = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), torch.tensor([4.0, 12.0]).view(2, 1, 1, 1)
    assert model.discriminator_loss(real, fake).item() == 2 + (6 + 0) / 2


def test_pulling_away_term_by_hand() -> None:
    codes = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])  # squared cosines 1/2, 0, 1/2
    assert pulling_away_term(codes).item() == pytest.approx(1 / 3)


def unrolled_loss(weight: float, real: np.ndarray, fake: np.ndarray, steps: int, lr: float, saturating: bool) -> float:
    """The generator's loss after `steps` steps of D(x) = w x, whose gradient is -r s(-wr) + f s(wf), s the sigmoid.

    -log D(G(z)) or, saturating, log D(x) + log(1 - D(G(z))).
    """
    for _ in range(steps):
        gradient = (-real / (1 + np.exp(weight * real))).mean() + (fake / (1 + np.exp(-weight * fake))).mean()
        weight -= lr * gradient
    if saturating:
        return -np.logaddexp(0, -weight * real).mean() - np.logaddexp(0, weight * fake).mean()
    return np.logaddexp(0, -weight * fake).mean()


@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_unrolled_gradient_goes_through_the_steps_of_the_discriminator(steps: int, saturating: bool) -> None:
    model = UnrolledGAN(network=MLP(0.1), unrolled_steps=steps, unrolled_lr=0.7, saturating=saturating)
    model.discriminator = Linear([0.4]).double()
    real, latents = np.array([0.5, 2.0, 1.0]), np.array([-1.0, 0.3, 0.8])
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)  # the generator: G(z) = a z
    images = [torch.tensor(pixels).view(3, 1, 1, 1) for pixels in (real, latents)]
    loss = model.generator_loss(images[0], scale * images[1])
    loss.backward()
    assert loss.item() == pytest.approx(unrolled_loss(0.4, real, 1.5 * latents, steps, 0.7, saturating), rel=1e-8)
    above, below = (unrolled_loss(0.4, real, a * latents, steps, 0.7, saturating) for a in (1.5 + 1e-5, 1.5 - 1e-5))
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx((above - below) / 2e-5, rel=1e-6)
    assert model.discriminator.weights.grad is None
    assert model.discriminator.weights.item() == pytest.approx(0.4)


def test_unrolled_gradient_of_one_step_worked_out_by_hand() -> None:
    """w' = w - lr (-r s(-wr) + f s(wf)); d softplus(-w'f)/df = -s(-w'f) (w' - lr f (s(wf) + f w s(wf) s(-wf)))."""
    weight, real, lr, fake = 0.4, 1.0, 0.5, torch.tensor([2.0], requires_grad=True)
    model = UnrolledGAN(network=MLP(0.1), unrolled_steps=1, unrolled_lr=lr)
    model.discriminator = Linear([weight])
    model.generator_loss(torch.tensor([real]).view(1, 1, 1, 1), fake.view(1, 1, 1, 1)).backward()

    def sigmoid(x: float) -> float:
        return 1 / (1 + np.exp(-x))

    ahead = weight - lr * (-real * sigmoid(-weight * real) + 2 * sigmoid(weight * 2))
    slope = -lr * (sigmoid(weight * 2) + 2 * weight * sigmoid(weight * 2) * sigmoid(-weight * 2))
    assert fake.grad is not None
    assert fake.grad.item() == pytest.approx(-sigmoid(-ahead * 2) * (ahead + 2 * slope), rel=1e-5)


@pytest.mark.parametrize("before", [0, 3])
def test_steps_ahead_are_those_that_adam_takes_next(before: int) -> None:
    weight, slopes = nn.Parameter(torch.tensor([0.4, -1.0])), torch.tensor([2.0, 30.0])
    optimizer = torch.optim.Adam([weight], lr=0.01, betas=(0.5, 0.9))

    def steps(count: int) -> None:
        for _ in range(count):
            weight.grad = slopes * weight.detach()
            optimizer.step()

    steps(before)
    ahead, foreseen = UnrolledAdam(optimizer), weight.detach().clone()
    for _ in range(4):
        [foreseen] = ahead.step([foreseen], [slopes * foreseen])
    steps(4)
    torch.testing.assert_close(foreseen, weight.detach())


def test_unrolled_gan_looks_ahead_with_the_optimizer_that_trains_its_discriminator() -> None:
    model, data, trainer = gan_run("unrolled_gan", "trainer.max_steps=3")
    trainer.fit(model, datamodule=data)
    assert isinstance(model, UnrolledGAN)
    ahead = model.unrolled_optimizer()
    assert isinstance(ahead, UnrolledAdam)
    assert (ahead.lr, ahead.steps) == (1e-4, 3)


@pytest.mark.parametrize("key", ["weight_decay=0.1", "amsgrad=true"])
def test_unrolled_gan_refuses_to_look_ahead_with_what_its_steps_leave_out(key: str) -> None:
    outcome = run("model=unrolled_gan", *PLAIN, "trainer.max_epochs=1", f"model.discriminator_optimizer.{key}")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome
    assert key.split("=")[0] in outcome.err


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_discriminator_that_does_not_normalize_starts_at_a_scale_that_images_survive(width: float) -> None:
    features, _ = DCGAN(width).discriminator(batch_norm=False)
    scale = features(torch.randn(100, 1, 28, 28)).square().mean().sqrt().item()
    assert 0.5 < scale < 2  # from N(0, 0.02) it is 0.01 at a quarter of the width


def test_mad_gan_row_is_made_by_generator_n_mod_k() -> None:
    net = Generators(nn.Identity(), [Times(1), Times(10), Times(100)])
    assert net(torch.ones(7, 1)).flatten().tolist() == [1, 10, 100, 1, 10, 100, 1]
    assert net(torch.tensor([[1.0], [2.0]])).flatten().tolist() == [1, 20]


def test_mad_gan_makes_an_image_of_each_latent_by_each_generator_in_a_step() -> None:
    net = Generators(nn.Identity(), [Times(1), Times(10), Times(100)])
    assert net(torch.tensor([[1.0], [2.0]]), each=True).flatten().tolist() == [1, 10, 100, 2, 20, 200]
    model = MADGAN(network=DCGAN(0.1), num_generators=3)
    samples = model.training_samples(4)
    assert samples.shape == (12, 1, 28, 28)
    _, classes = model.classes(samples[:4], samples)
    assert classes.tolist() == [0, 1, 2] * 4


@pytest.mark.parametrize("network", [DCGAN(0.1), MLP(0.1), Points(), Stacked()], ids=lambda pair: type(pair).__name__)
def test_mad_gan_shares_all_layers_but_the_last_ones(network: NetworkPair) -> None:
    model, plain = MADGAN(network=network, num_generators=3), network.generator(100)
    weights = [parameter.numel() for parameter in plain.parameters()]
    layers = [module for module in plain.modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    last = sum(parameter.numel() for parameter in layers[-1].parameters())
    assert sum(parameter.numel() for parameter in model.generator.parameters()) == sum(weights) + 2 * last
    with pytest.raises(ArgumentError, match=f"private_layers .*{len(layers)}"):
        MADGAN(network=network, private_layers=len(layers))


def test_mad_gan_classes_are_the_generators_and_real_the_last() -> None:
    real_classes, fake_classes = MADGAN(network=DCGAN(0.1), num_generators=3).classes(
        torch.zeros(2, 1), torch.zeros(5, 1)
    )
    assert real_classes.tolist() == [3, 3]
    assert fake_classes.tolist() == [0, 1, 2, 0, 1]


def test_mad_gan_losses_by_hand() -> None:
    """Images of three pixels that are the logits of two generators and of real; log-sums from numpy."""
    model = MADGAN(network=DCGAN(0.1), num_generators=2, fake_weight=2.0)  # the paper's sum over the generators
    model.discriminator = nn.Flatten()
    real, fake = torch.randn(4, 3, 1, 1), torch.randn(4, 3, 1, 1)
    real_logs, fake_logs = (
        np.log(odds / odds.sum(1, keepdims=True)) for odds in (real.exp().numpy(), fake.exp().numpy())
    )
    real_logs, fake_logs = real_logs[..., 0, 0], fake_logs[..., 0, 0]
    right = fake_logs[[0, 1, 2, 3], [0, 1, 0, 1]]
    assert model.discriminator_loss(real, fake).item() == pytest.approx(
        -real_logs[:, 2].mean() - 2 * right.mean(), rel=1e-5
    )
    assert model.generator_loss(real, fake).item() == pytest.approx(-fake_logs[:, 2].mean(), rel=1e-5)
    model.saturating = True
    assert model.generator_loss(real, fake).item() == pytest.approx(
        np.log(1 - np.exp(fake_logs[:, 2])).mean(), rel=1e-4
    )


def test_mad_gan_accuracy_is_of_real_against_any_generator() -> None:
    model = MADGAN(network=DCGAN(0.1), num_generators=2)
    model.discriminator = nn.Flatten()
    real = torch.eye(3)[[2, 2, 0, 2]].view(4, 3, 1, 1)  # one is missed
    fake = torch.eye(3)[[1, 0, 0, 2]].view(4, 3, 1, 1)  # one passes, whoever made the others
    assert model.discriminator_accuracy(real, fake).item() == 6 / 8


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WGAN(clip=0.0), "clip .*0"),
        (lambda: WGAN(warm_up_steps=0), "warm_up_steps .*0"),
        (lambda: WGANGP(penalty=-1.0), "penalty .*-1"),
        (lambda: MADGAN(num_generators=0), "num_generators .*0"),
        (lambda: MADGAN(private_layers=0), "private_layers .*0"),
        (lambda: MADGAN(fake_weight=0.0), "fake_weight .*0"),
        (lambda: MinibatchGAN(kernels=0), "kernels .*0"),
        (lambda: UnrolledGAN(unrolled_steps=-1), "unrolled_steps .*-1"),
        (lambda: UnrolledGAN(unrolled_lr=0.0), "unrolled_lr .*0"),
        (lambda: EBGAN(network="mlp"), "network .*mlp"),  # type: ignore[arg-type]
        (lambda: EBGAN(network=Points()), "network .*Points"),
        (lambda: CGAN(network=Points()), "network Points has no class-conditional form"),
        (lambda: DCGAN(width=0.0), "width .*0"),
        (lambda: CGAN(ema_decay=2.0), "ema_decay.* .*2"),
        (lambda: CGAN(latent_dim=True), "latent_dim .*True"),
    ],
)
def test_setting_out_of_range_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("build", "shares"),
    [
        *((build, [0.2, 0.5, 0.5]) for build in (VanillaGAN, CGAN, MinibatchGAN, MADGAN)),
        *((build, []) for build in (WGAN, WGANGP, DRAGAN, EBGAN, UnrolledGAN)),
        *((lambda network, cls=cls: cls(network=network, num_classes=10), []) for cls in (WGANGP, DRAGAN)),
    ],
)
def test_discriminator_has_dropout_only_where_its_paper_lets_it(build: Any, shares: list[float]) -> None:
    assert dropped(build(network=MLP(0.1)).discriminator) == shares


def test_minibatch_layer_is_calibrated_without_dropout() -> None:
    model, data, trainer = gan_run("minibatch_gan", "model/network=mlp", "trainer.max_steps=1")
    discriminator: Any = model.discriminator
    modes: list[bool] = []
    discriminator[1].calibrate = lambda rows: modes.append(discriminator[0].training)
    trainer.fit(model, data)
    assert modes == [False]
    assert dropped(discriminator[0]) == [0.2, 0.5, 0.5]
    assert discriminator[0].training


@pytest.mark.parametrize("pair", [MLP(), DCGAN(0.1), Stacked()], ids=lambda pair: type(pair).__name__)
def test_unrolled_discriminator_is_that_of_its_pair_without_dropout(pair: NetworkPair) -> None:
    """All of its look-ahead steps are of one function; Metz et al. 2017 keep batch normalization."""
    of_pair, unrolled = (
        [type(layer) for layer in net.modules() if not isinstance(layer, nn.Dropout | nn.Identity)]
        for net in (pair.discriminator(), UnrolledGAN(network=pair).discriminator)
    )
    assert unrolled == of_pair
    assert not dropped(UnrolledGAN(network=pair).discriminator)
