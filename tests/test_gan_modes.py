"""Modes: the ring and the stacked digits, nets that make them, what counts their modes, runs that go on alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import only_run, results_of, run, run_well
from conftest import compose, models_of
from gans import SaveAt
from lightning import Trainer, seed_everything
from nets import dropped
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from datamodules.in_memory import InMemoryData, Split
from datamodules.ring import Ring
from datamodules.stacked_mnist import StackedMNIST
from gan.adversarial import GAN
from gan.cgan import CGAN
from gan.ebgan import EBGAN
from gan.networks import DCGAN, MLP, NetworkPair, Points, Stacked
from gan.networks.blocks import HalfTanh
from gan.scores.evaluation import fixed_seed_samples
from gan.scores.modes import RingModes, StackedModes, ring_scores
from tasks.build import build
from tasks.process import configure_process
from tasks.untrusted import check_tensors

QUIET = ("~callbacks.progress_bar", "trainer.accelerator=cpu")
SMALL = {
    "ring": ("data.epoch_size=48", "data.batch_size=16", "callbacks.modes.count=50"),
    "stacked_mnist": ("data.train_images_per_class=5", "data.batch_size=20", "callbacks.modes.count=20"),
}
BOTH = sorted(SMALL)
COUNTS = "callbacks.modes._target_=gan.scores.modes"
FREE = [name for name in models_of(GAN) if name not in ("cgan", "ebgan")]  # to use any pair of nets


def mode_run(experiment: str, *overrides: str, epochs: int = 2) -> tuple[GAN, InMemoryData, Trainer]:
    """Three batches an epoch or less, scored after each."""
    often = (f"trainer.max_epochs={epochs}", "callbacks.modes.every_n_epochs=1", "trainer.log_every_n_steps=1")
    settings = (f"experiment={experiment}", *SMALL[experiment], *often, "callbacks.modes.final_count=60", *QUIET)
    cfg = compose(*settings, *overrides)
    configure_process()
    seed_everything(cfg.seed, verbose=False)
    model, data, trainer = build(cfg, Path.cwd())
    assert isinstance(model, GAN)
    assert isinstance(data, InMemoryData)
    data.setup()
    return model, data, trainer


@pytest.mark.parametrize("width", [1.0, 0.3])
@pytest.mark.parametrize("pair", NetworkPair.__subclasses__())
def test_a_pair_makes_and_reads_samples_of_its_shape(pair: type[NetworkPair], width: float) -> None:
    network = pair(width)
    made = network.generator(7)(torch.randn(5, 7))
    assert made.shape == (5, *network.sample_shape)
    assert network.discriminator()(made).shape == (5,)
    assert network.discriminator(outputs=4, batch_norm=False, dropout=False)(made).shape == (5, 4)
    features, count = network.features(dropout=False)
    assert features(made).shape == (5, count)


@pytest.mark.parametrize("network", [MLP(0.1), DCGAN(0.1)], ids=lambda pair: type(pair).__name__)
def test_a_discriminator_without_dropout_and_batch_norm_treats_each_image_by_itself(network: NetworkPair) -> None:
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    net = network.discriminator(dropout=False, batch_norm=False)
    conditional = network.conditional(7, 10, dropout=False, batch_norm=False)[1]
    with torch.no_grad():
        assert torch.allclose(net(images)[:1], net(images[:1]), atol=1e-6)
        assert torch.allclose(conditional(images, labels)[:1], conditional(images[:1], labels[:1]), atol=1e-6)


def test_published_pairs_have_the_layers_of_their_papers() -> None:
    """Metz et al. 2017, appendix A, and their pair for Stacked MNIST as the code of PacGAN has it (256 latents)."""
    assert [tuple(w.shape) for w in Points().generator(256).parameters() if w.dim() > 1] == [
        *((128, 256), (128, 128), (2, 128))
    ]
    assert [tuple(w.shape) for w in Points().discriminator().parameters() if w.dim() > 1] == [
        *((128, 2), (128, 128), (1, 128))
    ]
    assert [tuple(w.shape) for w in Stacked().generator(256).parameters() if w.dim() > 1] == [
        *((1024, 256), (64, 32, 3, 3), (32, 16, 3, 3), (16, 8, 3, 3), (3, 8, 3, 3))
    ]
    assert [tuple(w.shape) for w in Stacked().discriminator().parameters() if w.dim() > 1] == [
        *((2, 3, 3, 3), (4, 2, 3, 3), (8, 4, 3, 3), (1, 128))
    ]
    assert [tuple(w.shape) for w in Stacked(discriminator_width=0.5).discriminator().parameters() if w.dim() > 1] == [
        *((4, 3, 3, 3), (8, 4, 3, 3), (16, 8, 3, 3), (1, 256))
    ]


@pytest.mark.parametrize("cls", [CGAN, EBGAN])
def test_a_gan_that_cannot_use_points_says_so(cls: Any) -> None:
    with pytest.raises(ValueError, match=r"network .*Points"):
        cls(network=Points())


def test_points_of_the_ring_are_those_of_its_gaussians() -> None:
    data = Ring(modes=8, radius=2.0, sigma=0.1, epoch_size=40_000)
    data.setup()
    assert data.train_split is not None
    points, labels = data.transform(data.train_split.images), data.train_split.labels
    for mode in range(8):
        angle, of_mode = 2 * np.pi * mode / 8, points[labels == mode]
        assert of_mode.mean(0).tolist() == pytest.approx([2 * np.cos(angle), 2 * np.sin(angle)], abs=0.01)
        assert of_mode.std(0).tolist() == pytest.approx([0.1, 0.1], rel=0.05)
    assert labels.bincount().tolist() == [5000] * 8


@pytest.mark.parametrize("name", ["modes", "epoch_size", "radius", "sigma", "batch_size"])
def test_a_ring_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} .*0"):
        Ring(**{name: 0})


def test_a_triple_is_three_digits_and_its_label_theirs() -> None:
    data = StackedMNIST()
    digits = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(-1, 1, 28, 28)  # an image that is its label
    data.train_split = Split(digits, torch.arange(10))
    images, labels = data.on_before_batch_transfer((digits, torch.arange(10)), 0)
    assert images.shape == (10, 3, 28, 28)
    assert images.dtype == torch.uint8
    assert images[:, 0, 0, 0].tolist() == list(range(10))
    assert (images[:, :, 0, 0].long() @ torch.tensor([100, 10, 1])).tolist() == labels.tolist()
    assert len(labels.unique()) > 1
    assert len(set((labels % 100).tolist())) > 5  # the second and third are drawn


def test_evaluated_triples_are_of_their_own_split_and_always_the_same() -> None:
    data = StackedMNIST(batch_size=7)
    own = torch.arange(100, 110, dtype=torch.uint8).view(10, 1, 1, 1).expand(-1, 1, 28, 28)
    data.train_split = Split(torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.long))
    data.val_split = data.test_split = Split(own, torch.arange(10))
    seen = []
    for batch_size, loader in ((7, data.val_dataloader), (2000, data.test_dataloader), (7, data.predict_dataloader)):
        data.batch_size = batch_size
        images, labels = next(iter(loader()))
        images, labels = data.on_before_batch_transfer((images, labels), 0)
        assert images.shape == (10, 3, 28, 28)
        digits = images[:, :, 0, 0].long() - 100
        assert all(sorted(column.tolist()) == list(range(10)) for column in digits.T)
        assert (digits @ torch.tensor([100, 10, 1])).tolist() == labels.tolist()
        seen.append(labels)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    image, label = data.val_dataloader().dataset[3]
    assert image.shape == (3, 28, 28)
    assert label == seen[0][3]


def test_ring_scores_of_points_set_by_hand() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = torch.cat(
        [
            centres[:1].expand(60, 2) + torch.tensor([0.29, 0.0]),  # within three standard deviations of 0.1
            centres[1:2].expand(20, 2),
            centres[2:3].expand(19, 2),  # one too few
            centres[3:].expand(1, 2) + torch.tensor([0.0, 0.31]),  # just outside
        ]
    )
    scores = ring_scores(points, centres, 0.1)
    shares = np.array([60, 20, 19]) / 99
    assert scores["modes"] == 2
    assert scores["high_quality"] == pytest.approx(0.99)
    assert scores["modes_kl"] == pytest.approx((shares * np.log(shares * 4)).sum(), rel=1e-5)
    assert ring_scores(points + 100, centres, 0.1) == pytest.approx(
        {"modes": 0, "modes_kl": np.log(4), "high_quality": 0}
    )


def test_real_points_score_as_well_as_can_be() -> None:
    data = Ring()
    data.setup()
    scores = ring_scores(data.examples(2500), data.centres, data.sigma)
    assert scores["modes"] == 8
    assert scores["modes_kl"] < 0.01  # chance alone gives about 7 / 5,000
    assert scores["high_quality"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)  # of a Gaussian of the plane


class Makes(GAN):
    """Samples that are given, one after the other."""

    def __init__(self, images: Tensor) -> None:
        super().__init__(torch.nn.Identity(), torch.nn.Identity(), latent_dim=1)
        self.images, self.given = images, 0

    def sample(self, count: int, labels: Tensor | None = None) -> Tensor:
        self.given += count
        return self.images[self.given - count : self.given]


def test_modes_of_real_triples_are_those_of_their_labels() -> None:
    _, data, _ = mode_run("stacked_mnist", "data=stacked_mnist", "data.train_images_per_class=100")
    assert data.train_split is not None
    images, labels = data.on_before_batch_transfer((data.train_split.images, data.train_split.labels), 0)
    scores = StackedModes(final_count=1000).compute_scores(Makes(data.transform(images)), data, "test", final=True)
    assert scores["count"] == 1000
    assert scores["modes"] == pytest.approx(len(labels.unique()), rel=0.03)  # the scoring net is not always right
    frequencies = np.bincount(labels.numpy(), minlength=1000) / 1000
    kl = sum(p * np.log(1000 * p) for p in frequencies if p)
    assert scores["modes_kl"] == pytest.approx(kl, abs=0.03)


@pytest.mark.parametrize("experiment", BOTH)
def test_a_run_of_two_epochs_leaves_scores_pictures_and_a_gif(experiment: str) -> None:
    model, data, trainer = mode_run(experiment)
    trainer.fit(model, data)
    board = EventAccumulator(trainer.default_root_dir, {"images": 0}).Reload()
    steps = trainer.global_step
    assert [event.step for event in board.Scalars("val/modes")] == [steps // 2, steps]
    assert [event.step for event in board.Scalars("watch/sample_diversity")] == list(range(1, steps + 1))
    assert len(board.Images("samples/over time")) == 2
    with Image.open("samples.gif") as film:
        assert len(list(ImageSequence.Iterator(film))) > 2  # which joins frames that are alike
    assert len(list(Path("samples").iterdir())) == steps
    with Image.open(f"samples/step_{steps:07d}.png") as picture:
        assert picture.mode == "RGB"  # what is coloured stays so


@pytest.mark.extended
@pytest.mark.parametrize("experiment", BOTH)
@pytest.mark.parametrize("batches", [2, 3])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(experiment: str, batches: int) -> None:
    model, data, trainer = mode_run(experiment)
    trainer.callbacks.append(SaveAt(batches))  # type: ignore[attr-defined]
    trainer.fit(model, data)
    resumed, data, second = mode_run(experiment)
    second.fit(resumed, data, ckpt_path="stopped.ckpt", weights_only=True)
    ends = zip(model.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(value, same) for value, same in ends)


@pytest.mark.parametrize("experiment", BOTH)
def test_scores_change_nothing_in_training(experiment: str) -> None:
    ends = []
    for overrides in ((), ("~callbacks.plots", "~callbacks.collapse_watch", "~callbacks.modes")):
        model, data, trainer = mode_run(experiment, *overrides)
        trainer.fit(model, data)
        ends.append(model.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


@pytest.mark.extended
@pytest.mark.parametrize("experiment", BOTH)
@pytest.mark.parametrize("name", FREE)
def test_every_gan_that_can_use_any_pair_learns_on_both_sets(experiment: str, name: str) -> None:
    steps = ("model.warm_up_steps=null",) if name == "wgan" else ()
    quiet = ("model.discriminator_steps=1", "~callbacks.plots", "~callbacks.modes")
    model, data, trainer = mode_run(experiment, f"model={name}", *quiet, *steps, epochs=1)
    before = [parameter.detach().clone() for parameter in model.generator.parameters()]
    trainer.fit(model, data)
    assert model.sample(5).shape == (5, *data.examples(1).shape[1:])
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, model.generator.parameters(), strict=True))


def test_same_samples_each_time_and_training_does_not_notice() -> None:
    model, _, _ = mode_run("ring")
    before = torch.get_rng_state()
    assert torch.equal(fixed_seed_samples(model, 30), fixed_seed_samples(model, 30))
    assert torch.equal(torch.get_rng_state(), before)


def test_command_writes_the_scores_into_results_and_table() -> None:
    small = ("data.epoch_size=600", "data.batch_size=100", "trainer.max_epochs=1", "seed=0,1")
    run_well("-m", "experiment=ring", *small, "~callbacks.progress_bar", "~callbacks.plots", "trainer.accelerator=cpu")
    (sweep,) = Path("outputs/sweeps").iterdir()
    results = [results_of(path.parent) for path in sweep.rglob("results.json")]
    assert len(results) == 2
    assert all({"test/modes", "test/modes_kl", "test/high_quality"} <= result.keys() for result in results)
    header, _, row = (sweep / "leaderboard.md").read_text().splitlines()[:3]
    columns = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    mean = np.mean([100 * result["test/high_quality"] for result in results])
    assert columns["high quality (%)"].startswith(f"{mean:.1f} +- ")
    assert "modes" in columns


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("experiment=ring", "model/network=mlp"), "Points"),
        (("model=gan", "data=stacked_mnist", "~callbacks.evaluation"), "Stacked"),
        (("model=gan", "data=mnist_5k", f"{COUNTS}.RingModes"), "RingModes"),
        (("model=gan", "data=mnist_5k", f"{COUNTS}.StackedModes"), "StackedModes"),
        (("experiment=ring", "callbacks.modes.scoring_net=mnist"), "callbacks.modes.scoring_net"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    outcome = run(*arguments, "~callbacks.plots", "trainer.accelerator=cpu", "trainer.max_epochs=1")
    assert outcome.status == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_callback_that_is_null_is_left_out() -> None:
    _, _, trainer = mode_run("ring")
    names = [type(callback).__name__ for callback in trainer.callbacks]  # type: ignore[attr-defined]
    assert "RingModes" in names
    assert "GANEvaluation" not in names


def test_points_are_no_images_to_generate() -> None:
    small = ("data.epoch_size=32", "data.batch_size=16", "trainer.max_epochs=1", "trainer.accelerator=cpu")
    run_well("experiment=ring", *small, "~callbacks.plots", "~callbacks.progress_bar")
    outcome = run("task=generate", f"ckpt_path={only_run() / 'checkpoints' / 'last.ckpt'}", "task.format=png")
    assert outcome.status == 2
    assert "gray images" in outcome.err


@pytest.mark.parametrize("cls", [RingModes, StackedModes])
def test_too_few_samples_to_count_modes_of_are_refused(cls: Any) -> None:
    with pytest.raises(ValueError, match=r"final_count .*9"):
        cls(final_count=9)


def slopes(net: nn.Module) -> list[float]:
    return [module.negative_slope for module in net.modules() if isinstance(module, nn.LeakyReLU)]


def matrices(net: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in net.parameters() if parameter.dim() > 1]


def test_discriminators_have_the_slopes_and_the_dropout_of_their_papers() -> None:
    """Radford et al. 2016, section 3; PacGAN's code; Goodfellow et al. 2014 as its code has it: 0.2, then 0.5."""
    for batch_norm in (True, False):
        assert slopes(DCGAN(0.1).discriminator(batch_norm=batch_norm)) == [0.2] * 3
        assert slopes(Stacked().discriminator(batch_norm=batch_norm)) == [0.3] * 3
    assert dropped(MLP(0.1).discriminator()) == [0.2, 0.5, 0.5]
    assert dropped(MLP(0.1).conditional(100, 10)[1]) == [0.2, 0.5, 0.5]


def test_pairs_start_from_the_weights_of_their_papers() -> None:
    """N(0, 0.02) of Radford et al., U(-0.05, 0.05) and U(-0.005, 0.005) of Goodfellow et al., 0.8 of Metz et al."""
    for weight in [*matrices(DCGAN(0.5).generator(100)), *matrices(DCGAN(0.5).discriminator())]:
        assert weight.std().item() == pytest.approx(0.02, rel=0.15)
    for net, bound in ((MLP().generator(100), 0.05), (MLP().discriminator(), 0.005)):
        for weight in matrices(net):
            assert 0.98 * bound < weight.abs().max() <= bound
    for weight in [*matrices(Points().generator(256)), *matrices(Points().discriminator())]:
        torch.testing.assert_close(torch.linalg.svdvals(weight), torch.full((min(weight.shape),), 0.8))


def test_points_reach_the_discriminator_as_a_quarter_and_pixels_leave_the_mlp_by_a_sigmoid() -> None:
    read: list[Tensor] = []
    net = Points().discriminator()
    first = next(module for module in net.modules() if isinstance(module, nn.Linear))
    first.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    points = torch.randn(5, 2)
    net(points)
    torch.testing.assert_close(read[0], points / 4)
    activations = torch.linspace(-5, 5, 21)
    torch.testing.assert_close(HalfTanh()(activations), 2 * activations.sigmoid() - 1)


def test_mean_of_the_digits_is_that_of_each_channel_of_a_triple() -> None:
    data = StackedMNIST(normalize="pixel_mean")
    data.setup()
    other = StackedMNIST(normalize="pixel_mean")
    other.load_state_dict(data.state_dict())
    assert data.mean is not None
    assert data.mean.shape == (3, 28, 28)
    assert torch.equal(data.mean, torch.as_tensor(other.mean))
    check_tensors({"state_dict": {}, "data": data.state_dict()})
