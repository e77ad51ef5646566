"""Callbacks of the GANs: plots of samples and their GIF, and the collapse watch."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import flat, small_run
from gans import gan_run
from lightning import Callback, LightningModule, Trainer
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from datamodules.images import ImageData
from gan.adversarial import GAN
from gan.callbacks.collapse_watch import CollapseWatch, batch_statistics, collapse_metrics, deviation
from gan.callbacks.sample_plots import SamplePlots, animate, arc, nearest
from gan.cgan import CGAN
from gan.networks import DCGAN, MLP
from gan.vanilla import VanillaGAN

AT_THE_END = {
    "interpolations": "samples/interpolations between latents",
    "nearest_neighbours": "samples/each with the nearest training image on its right",
    "real_and_generated": "samples/real on the left, generated on the right",
}


def drawn_run(name: str, *overrides: str) -> tuple[GAN, ImageData, Trainer]:
    model, data, trainer = small_run(f"model={name}", "model.network.width=0.1", *overrides)
    assert isinstance(model, GAN)
    return model, data, trainer


@pytest.mark.parametrize("name", ["gan", "cgan"])
def test_pictures_are_drawn_over_time_and_at_the_end(name: str) -> None:
    model, data, trainer = drawn_run(name, "trainer.max_epochs=3")
    trainer.fit(model, data)
    board = EventAccumulator(trainer.default_root_dir, {"images": 0}).Reload()
    assert set(board.Tags()["images"]) == {"samples/over time", *AT_THE_END.values()}
    assert [event.step for event in board.Images("samples/over time")] == [3, 6, 9]
    rows = 10 if name == "cgan" else 8
    with Image.open("samples.gif") as film:
        assert len(list(ImageSequence.Iterator(film))) == 9
        assert film.size == (8 * 30 + 2, rows * 30 + 2)
    for file, tag in AT_THE_END.items():
        (logged,) = board.Images(tag)
        with Image.open(f"{file}.png") as picture:
            assert picture.size == (logged.width, logged.height)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (("trainer.max_epochs=1", "callbacks.plots.frames=60"), [1, 2, 3]),
        (
            ("trainer.max_epochs=4", "callbacks.plots.frames=2"),
            [3, 6, 9, 12],
        ),  # TensorBoard's, of which the GIF has two
        (("trainer.max_epochs=-1", "trainer.max_steps=6", "callbacks.plots.frames=3"), [2, 3, 4, 6]),
    ],
)
def test_frames_are_at_even_intervals_of_the_budget(budget: tuple[str, ...], steps: list[int]) -> None:
    model, data, trainer = drawn_run("gan", *budget)
    trainer.fit(model, data)
    frames = [int(path.stem.removeprefix("step_")) for path in sorted(Path("samples").iterdir())]
    assert frames[: len(steps)] == steps


def test_pictures_do_not_change_what_is_learnt() -> None:
    weights = []
    for plots in ("callbacks.plots.frames=60", "~callbacks.plots"):
        model, data, trainer = drawn_run("gan", "model.ema_decay=0.9", "trainer.max_epochs=2", plots)
        trainer.fit(model, data)
        weights.append(flat(model))
    assert torch.equal(*weights)


def test_gif_continues_in_a_resumed_run() -> None:
    model, data, trainer = drawn_run("gan", "trainer.max_epochs=2")
    trainer.fit(model, data)
    first = Path("samples/step_0000001.png").read_bytes()
    resumed, data, trainer = drawn_run("gan", "trainer.max_epochs=4")
    trainer.fit(resumed, data, ckpt_path="checkpoints/last.ckpt", weights_only=True)
    assert [path.name for path in sorted(Path("samples").iterdir())] == [f"step_{n:07d}.png" for n in range(1, 13)]
    assert Path("samples/step_0000001.png").read_bytes() == first
    with Image.open("samples.gif") as film:
        assert len(list(ImageSequence.Iterator(film))) == 12


def test_gif_of_many_frames_is_thinned_out_from_the_first_to_the_last() -> None:
    pictures = []
    for number in range(9):
        pictures.append(Path(f"{number}.png"))
        to_pil_image(torch.full((1, 8, 8), number / 8)).save(pictures[-1])
    animate(pictures, Path("film.gif"), frames=5, seconds=1)
    with Image.open("film.gif") as film:
        shades = [np.asarray(frame.convert("L"))[0, 0].item() for frame in ImageSequence.Iterator(film)]
    assert shades == pytest.approx([0, 64, 128, 191, 255], abs=2)


def test_pictures_change_nothing_in_training() -> None:
    ends = []
    for overrides in ((), ("~callbacks.plots", "~callbacks.collapse_watch")):
        model, data, trainer = drawn_run("dragan", "trainer.max_epochs=2", "trainer.log_every_n_steps=1", *overrides)
        trainer.fit(model, data)
        ends.append(model.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_nearest_image_of_a_copy_is_its_original() -> None:
    _, data, _ = drawn_run("gan")
    assert data.train_split is not None
    real = data.transform(data.train_split.images)
    assert torch.equal(nearest(real[[7, 2]] + 0.01, data.train_split.images, data.transform), real[[7, 2]])


def test_arc_keeps_the_length_of_latents() -> None:
    start, end = torch.randn(5, 100), torch.randn(5, 100)
    start, end = (10 * part / part.norm(dim=1, keepdim=True) for part in (start, end))
    for share in (0.0, 0.3, 1.0):
        assert arc(start, end, share).norm(dim=1).tolist() == pytest.approx([10.0] * 5, rel=1e-4)
    assert torch.allclose(arc(start, end, 0.0), start, atol=1e-4)
    assert torch.allclose(arc(start, end, 1.0), end, atol=1e-4)


def test_watch_measures_at_log_steps() -> None:
    model, data, trainer = gan_run("gan", "trainer.max_epochs=2", "trainer.log_every_n_steps=2")
    trainer.fit(model, data)
    board = EventAccumulator(trainer.default_root_dir).Reload()
    for name in ("discriminator_accuracy", "generator_gradient_norm", "sample_diversity"):
        assert [event.step for event in board.Scalars(f"watch/{name}")] == [2, 4, 6]


class Lengths(Callback):
    """The norm of the generator's gradient after each batch."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, GAN)
        squares = [
            w.grad.double().square().sum().item() for w in pl_module.generator.parameters() if w.grad is not None
        ]
        self.norms.append(sum(squares) ** 0.5)


def test_watch_logs_the_norm_of_the_generators_gradient() -> None:
    model, data, trainer = gan_run("gan")
    lengths = Lengths()
    trainer.callbacks.append(lengths)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    board = EventAccumulator(trainer.default_root_dir).Reload()
    logged = [event.value for event in board.Scalars("watch/generator_gradient_norm")]
    assert logged == pytest.approx(lengths.norms, rel=1e-5)


def test_watch_normalizes_as_in_training_and_leaves_no_trace() -> None:
    net, images = DCGAN(0.1).discriminator(), torch.randn(8, 1, 28, 28)
    with torch.no_grad():
        expected = copy.deepcopy(net)(images)
        state = copy.deepcopy(net.state_dict())
        with batch_statistics(net):
            torch.testing.assert_close(net(images), expected)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())


def test_watch_has_no_accuracy_for_a_critic() -> None:
    for name in ("wgan", "wgan_gp", "ebgan"):
        model, data, _ = gan_run(name)
        assert data.train_split is not None
        assert collapse_metrics(model, data.transform(data.train_split.images), data.train_split.labels).keys() == {
            "sample_diversity"
        }


def test_watch_sees_which_side_has_won() -> None:
    """Samples are 1 everywhere, real images begin with a 2; the discriminator draws its line between them."""
    real, labels = torch.randn(4, 1, 28, 28), torch.zeros(4, dtype=torch.long)
    real[:, 0, 0, 0] = 2
    ones = nn.Linear(100, 784)
    nn.init.zeros_(ones.weight)
    nn.init.ones_(ones.bias)
    generator = nn.Sequential(ones, nn.Unflatten(1, (1, 28, 28)))

    class Sees(nn.Module):
        def __init__(self, sign: float) -> None:
            super().__init__()
            self.sign = sign

        def forward(self, images: Tensor) -> Tensor:
            return self.sign * (images[:, 0, 0, 0] - 1.5)

    won = {sign: collapse_metrics(GAN(generator, Sees(sign)), real, labels) for sign in (1.0, -1.0)}
    assert won[1.0]["discriminator_accuracy"] == 1
    assert won[-1.0]["discriminator_accuracy"] == 0
    watch = CollapseWatch(patience=1)
    assert "the discriminator has overpowered" in watch.problem("discriminator_accuracy", 1.0)
    assert "the generator has overpowered" in watch.problem("discriminator_accuracy", 0.0)
    assert watch.problem("discriminator_accuracy", 0.6) == ""


def test_deviation_is_the_distance_from_the_mean_image() -> None:
    images = torch.randn(50, 1, 28, 28)
    expected = np.sqrt(((images.numpy() - images.numpy().mean(0)) ** 2).mean())
    assert deviation(images).item() == pytest.approx(expected, rel=1e-5)
    assert deviation(images[:1].expand(9, -1, -1, -1)).item() == 0


def test_watch_warns_once_of_samples_that_are_all_alike(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ("model.optimizer.lr=0.0", "trainer.max_epochs=3", "callbacks.collapse_watch.start=4")
    model, data, trainer = gan_run("gan", *overrides)
    for module in model.generator.modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
    trainer.fit(model, data)
    lines = [line for line in capsys.readouterr().out.splitlines() if "sample_diversity" in line]
    assert lines == ["warning      generator step 7: sample_diversity is 0, below 0.1"]
    board = EventAccumulator(trainer.default_root_dir).Reload()
    assert "watch/warnings/text_summary" in board.Tags()["tensors"]


def test_watch_warns_again_after_a_recovery() -> None:
    watch, warned = CollapseWatch(patience=2), []
    for step, diversity in enumerate((0.0, 0.0, 0.0, 0.5, 0.0, 0.0)):
        warned += [step for _ in watch.problems({"sample_diversity": diversity})]
    assert warned == [1, 5]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SamplePlots(frames=0), "frames .*0"),
        (lambda: SamplePlots(seconds=0.0), "seconds .*0"),
        (lambda: CollapseWatch(patience=0), "patience .*0"),
        (lambda: CollapseWatch(accuracy=2.0), "accuracy .*2"),
    ],
)
def test_setting_out_of_range_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def spread(images: Tensor) -> float:
    pixels = images.double().numpy()
    return float(np.sqrt(((pixels - pixels.mean(0)) ** 2).mean()))


def test_diversity_is_relative_to_that_of_the_real_images() -> None:
    model, real = VanillaGAN(network=MLP(width=0.1)), torch.randn(8, 1, 28, 28)
    found = collapse_metrics(model, real, torch.zeros(8, dtype=torch.long))
    assert found["sample_diversity"] == pytest.approx(spread(model.fixed_samples()) / spread(real), rel=1e-4)


def test_accuracy_of_a_conditional_discriminator_is_of_samples_of_the_batchs_classes() -> None:
    model, labels = CGAN(network=MLP(width=0.1)), torch.full((8,), 3)
    read: list[list[int] | None] = []
    for net in (model.generator, model.discriminator):
        net.register_forward_pre_hook(lambda _, inputs: read.append(inputs[1].tolist() if len(inputs) > 1 else None))
    collapse_metrics(model, torch.rand(8, 1, 28, 28), labels)
    assert read[1:] == [labels.tolist()] * 3  # behind the fixed samples: one batch of samples, real and fake
