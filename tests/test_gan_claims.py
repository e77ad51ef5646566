"""The claims about GANs: what the measures compute, on images, points and curves whose outcome is known."""

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from conftest import compose, flat, small_run
from torch import Tensor, nn

from gan.adversarial import GAN
from gan.networks import MLP, Points
from gan.vanilla import VanillaGAN
from tasks.claims import alterations, fixed_generator, gan_measures, score_changes, score_panel, score_panel_report
from tasks.claims.alterations import Scene
from tasks.claims.claim import MeasuredRun
from tasks.claims.gan_tips import Tip, TippedGAN

COUNT = 40


def made_up_scene(per_class: int = 30) -> Scene:
    """Ten classes of images, each image of one gray that no other image has."""
    labels = torch.arange(10).repeat(per_class)
    images = torch.linspace(-0.9, 0.9, len(labels)).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    foreign = torch.ones(COUNT, 1, 28, 28)
    return alterations.draw_scene(images, labels, foreign, COUNT, torch.Generator().manual_seed(0))


def grays(images: Tensor) -> set[float]:
    return set(images[:, 0, 14, 14].tolist())


def classes_of(scene: Scene, images: Tensor) -> set[int]:
    known = zip(
        [*scene.source[:, 0, 14, 14].tolist(), *scene.spare[:, 0, 14, 14].tolist()],
        [*scene.source_labels.tolist(), *scene.spare_labels.tolist()],
        strict=True,
    )
    by_gray = dict(known)
    return {by_gray[gray] for gray in grays(images)}


def run_of(*overrides: str) -> MeasuredRun:
    return MeasuredRun(compose(*overrides), Path("unused"), {})


def test_a_scene_has_no_image_twice() -> None:
    scene = made_up_scene()
    sets = [grays(part) for part in (scene.reference, scene.source, scene.spare)]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 300
    assert grays(scene.copied) <= grays(scene.spare)
    assert len(scene.copied) == COUNT


@pytest.mark.parametrize("count", [1, 4, 8])
def test_dropped_classes_are_gone_and_no_image_is_repeated(count: int) -> None:
    scene = made_up_scene()
    images = alterations.drop_classes(scene, count)
    assert classes_of(scene, images) <= {*range(10)} - {*scene.classes[:count].tolist()}
    assert len(grays(images)) == COUNT


def test_collapsed_classes_are_one_image_each() -> None:
    scene = made_up_scene()
    images = alterations.collapse_classes(scene, 10)
    assert len(grays(images)) == len(classes_of(scene, images)) == len(classes_of(scene, scene.source))
    assert grays(images) <= grays(scene.source)


@pytest.mark.parametrize("name", score_panel.ALTERATIONS)
def test_alterations_keep_the_count_and_change_more_at_their_largest_strength(name: str) -> None:
    scene = made_up_scene()
    apply, strengths = score_panel.ALTERATIONS[name]
    weak, strong = (apply(scene, strength) for strength in (strengths[0], strengths[-1]))
    assert weak.shape == strong.shape == scene.source.shape
    assert (strong - scene.source).abs().sum() > (weak - scene.source).abs().sum() > 0


def test_too_few_images_of_the_classes_left() -> None:
    with pytest.raises(ValueError, match="left are needed"):
        alterations.drop_classes(made_up_scene(per_class=9), 9)


@pytest.mark.extended
def test_panel_of_mnist_shows_that_copies_are_seen_against_the_copied_images_only() -> None:
    effects = ["nearest_neighbour_accuracy/copies_to_copied/1.0", "inception_score/copies_gap/1.0", "fid/dropped/8"]
    found = score_panel.score_panel(run_of("data=mnist"), effects, count=200, floors=3, counts=(50, 200))
    assert dict(found["fid/copies_to_copied"])[1.0] == pytest.approx(0, abs=1e-6)
    assert dict(found["nearest_neighbour_accuracy/copies_to_copied"])[1.0] == 0
    assert dict(found["precision/copies_to_copied"])[1.0] == 1
    assert found["nearest_neighbour_accuracy/copies_to_copied/1.0"] > 3
    assert found["inception_score/copies_gap/1.0"] == 0
    assert found["fid/dropped/8"] > 3
    assert all(math.isfinite(value) for curve in found.values() if isinstance(curve, list) for _, value in curve)
    assert {name.partition("/")[0] for name in found if name.endswith("/shifted")} == set(score_changes.WORSE)


def made_up_claim() -> dict[str, object]:
    """Three seeds in which every score is blind, but for the FID, which sees from two classes on."""
    runs = []
    for seed in range(3):
        curves = {}
        for score in score_changes.WORSE:
            curves[f"{score}/floor"] = [(0, 0.5), (1, 0.6), (2, 0.4)]
            names = (*score_panel.ALTERATIONS, score_changes.COPIED, score_changes.GAP)
            curves |= {f"{score}/{name}": [(0, 0.5), (1, 0.5 + 0.01 * seed), (2, 0.5)] for name in names}
            curves[f"{score}/count"] = [(100, 0.5), (200, 0.5)]
        curves["fid/dropped"] = [(0, 0.5), (1, 0.6), (2, 1.5 + seed / 10)]
        runs.append({"arm": "mnist", "seed": seed, "curves": curves, "measures": {}})
    return {"arms": {"mnist": []}, "runs": runs}


def test_table_says_from_which_strength_on_a_score_sees() -> None:
    text = score_panel_report.sees_table(made_up_claim(), "mnist").to_markdown()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    cells = {row[0]: row[1:] for row in rows[2:]}
    assert cells.pop("FID") == ["sees, from 2", *["no"] * 9]
    assert cells == {name: ["no"] * 10 for name in cells}


@pytest.mark.extended
def test_panel_is_drawn_with_a_column_per_alteration_and_a_row_per_score() -> None:
    figure = score_panel_report.draw(made_up_claim())
    assert len(figure.axes) == len(score_panel_report.DRAWN) * (len(score_panel_report.COLUMNS) - 2)
    assert all(axes.lines for axes in figure.axes)


POINTS = ("data=ring", "model/network=points")


@pytest.mark.extended
def test_a_discriminator_of_parallel_lines_saturates_and_a_critic_measures_their_distance() -> None:
    adam = ("model.optimizer.lr=1e-3",)
    gan = fixed_generator.parallel_lines(
        run_of("model=gan", "model.saturating=true", *POINTS, *adam), 300, 64, (1.0, 2.0)
    )
    critic = fixed_generator.parallel_lines(run_of("model=wgan_gp", *POINTS, *adam), 300, 64, (1.0, 2.0))
    assert dict(gan["value"])[2.0] == pytest.approx(math.log(2), abs=0.01)  # type: ignore[arg-type]
    assert dict(critic["value"])[2.0] == pytest.approx(2, rel=0.3)  # type: ignore[arg-type]
    assert critic["gradient_at_1"] > 10 * gan["gradient_at_1"]  # type: ignore[operator]


def test_gradient_norm_is_that_of_each_sample() -> None:
    model = fixed_generator.new_gan(run_of("model=wgan", *POINTS))
    linear = torch.nn.Linear(2, 1)
    linear.weight.data = torch.tensor([[3.0, 4.0]])
    model.discriminator = torch.nn.Sequential(linear, torch.nn.Flatten(0))
    points = torch.rand(7, 2)
    assert fixed_generator.gradient_norm(model, points, points.clone()) == pytest.approx(5)


def test_clipped_weights_lie_in_their_range_and_the_histogram_has_all() -> None:
    found = fixed_generator.critic_weights(run_of("model=wgan", "model.optimizer.lr=1e-2", *POINTS), 50, 64)
    weights = dict(found["weights"])  # type: ignore[arg-type]
    assert sum(weights.values()) == pytest.approx(1, abs=1e-4)
    assert 0 < found["share_at_extremes"] <= 1  # type: ignore[operator]


def made_up_run(loss: list[float], fid: list[float], name: str = "train/discriminator_loss") -> MeasuredRun:
    run = run_of("model=gan", *POINTS)
    run.curves = {  # in place of what a logger wrote
        name: [(step + 1, value) for step, value in enumerate(loss)],
        "train/generator_loss": [(step + 1, 1.0) for step in range(len(loss))],
        "val/fid": [(step + 1, value) for step, value in enumerate(fid)],
    }
    return run


def test_estimate_of_a_critic_that_falls_with_the_fid_correlates_fully() -> None:
    run = made_up_run([5.0, 4.0, 3.0], [90.0, 50.0, 20.0], "train/wasserstein_estimate")
    found = gan_measures.loss_tracks_fid(run)
    assert found["estimate_and_fid"] == 1
    assert found["generator_loss_and_fid"] == 0  # it is constant


def test_estimate_is_compared_from_the_highest_fid_on() -> None:
    run = made_up_run([0.0, 2.0, 5.0, 4.0, 3.0], [91.0, 90.0, 99.0, 50.0, 20.0], "train/wasserstein_estimate")
    found = gan_measures.loss_tracks_fid(run)
    assert found["estimate_and_fid"] == 1
    assert len(found["estimate"]) == 5  # type: ignore[arg-type]


def test_estimate_of_a_discriminator_is_the_jensen_shannon_divergence_of_its_loss() -> None:
    found = gan_measures.loss_tracks_fid(made_up_run([1.0, 0.5, 0.0], [90.0, 50.0, 20.0]))
    assert found["estimate_and_fid"] == -1
    assert dict(found["estimate"])[3] == pytest.approx(math.log(2))  # type: ignore[arg-type]


def test_early_mean_stops_at_its_step() -> None:
    run = made_up_run([1.0, 3.0, 100.0], [1.0])
    assert gan_measures.early_mean(run, "train/discriminator_loss", 2) == {"train_discriminator_loss": 2}
    with pytest.raises(ValueError, match="nothing was logged"):
        gan_measures.early_mean(run, "train/discriminator_loss", 0)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("kind", ["unnormalized", "mlp"])
def test_weak_generator_has_no_batch_normalization_and_is_trained(kind: str) -> None:
    network = ("model/network=weak_generator", "model.network.width=0.05", f"model.network.kind={kind}")
    steps = ("model.discriminator_steps=1", "model.warm_up_steps=null")
    quiet = ("callbacks.evaluation=null", "callbacks.plots=null", "callbacks.collapse_watch=null")
    model, data, trainer = small_run("model=wgan", *network, *steps, *quiet)
    assert isinstance(model, GAN)
    normalized = [
        any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in net.modules())
        for net in (model.generator, model.discriminator)
    ]
    assert normalized == [False, True]
    before = flat(model.generator)
    trainer.fit(model, data)
    assert flat(model.generator).isfinite().all()
    assert not torch.equal(flat(model.generator), before)
    assert model(torch.zeros(2, 100)).abs().max() <= 1


@pytest.mark.parametrize("tip", get_args(Tip))
def test_a_tip_changes_the_losses_that_it_is_about(tip: Tip) -> None:
    torch.manual_seed(0)
    model = TippedGAN(tip=tip, latent_dim=3, network=Points())
    real, fake = torch.rand(50, 2), torch.rand(50, 2) - 1
    seen = [TippedGAN.seen(model, part) for part in (real, fake)]
    assert (seen[0].equal(real) and seen[1].equal(fake)) == (tip != "input_noise")
    logits = model.discriminator(real).detach()
    plain = VanillaGAN.discriminator_loss(model, real, fake)
    changed = model.discriminator_loss(real, fake) - plain
    if tip == "label_smoothing":  # 0.1 of the probability is asked for the other label
        assert changed.item() == pytest.approx(0.1 * logits.mean().item(), rel=1e-3)
    elif tip not in ("input_noise", "spectral_norm"):  # whose norms are estimated anew at each look
        assert changed.item() == pytest.approx(0, abs=1e-6)
    assert (model.latents(1000).abs().max() <= 1) == (tip == "uniform_latents")
    kinds = [type(module) for module in model.modules()]
    assert (kinds.count(nn.LeakyReLU), kinds.count(nn.ReLU)) == ((4, 0) if tip == "leaky_relu" else (0, 4))


def test_spectral_norm_makes_each_layer_of_the_discriminator_one_of_norm_1() -> None:
    model = TippedGAN(tip="spectral_norm", latent_dim=3, network=Points())
    for _ in range(50):
        model.discriminator(torch.rand(5, 2))
    norms = [torch.linalg.matrix_norm(m.weight, 2) for m in model.discriminator.modules() if isinstance(m, nn.Linear)]
    assert [norm.item() for norm in norms] == pytest.approx([1, 1, 1], rel=0.05)
    points = torch.randn(1000, 2, requires_grad=True)
    [slopes] = torch.autograd.grad(model.discriminator(points).sum(), points)
    assert 0.25 < slopes.norm(dim=1).max() <= 10.5  # up to 1 over a standard deviation of a Gaussian, 0.1


@pytest.mark.parametrize(("modes", "few"), [(3.0, 1), (4.0, 0)])
def test_fewer_than_four_modes_are_few(modes: float, few: int) -> None:
    run = MeasuredRun(compose("model=gan", *POINTS), Path("unused"), {"val/modes": modes})
    assert gan_measures.few_modes(run) == {"few_modes": few}


def test_rise_of_an_estimate_is_the_share_that_it_gains_from_the_smallest_distance_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fixed_generator, "train_discriminator", lambda *_: None)
    monkeypatch.setattr(fixed_generator, "estimate", lambda model, real, fake: 3 * float(fake[0, 0] - real[0, 0]))
    found = fixed_generator.parallel_lines(run_of("model=wgan", *POINTS), distances=(0.0, 0.5, 1.0, 2.0))
    assert found["slope"] == pytest.approx(3)
    assert found["relative_rise"] == pytest.approx(1 - 0.5 / 2)
    assert found["value"] == [(0, 0), (0.5, 1.5), (1, 3), (2, 6)]


def test_scores_of_a_run_are_those_of_test_images() -> None:
    run = run_of("model=gan", *POINTS)
    run.results = {"val/fid": 1.0, "test/fid": 2.0, "val/kid": 3.0}
    assert gan_measures.scores(run, ["fid", "kid"]) == {"fid": 2, "kid": 3}


def test_images_of_a_panel_that_are_counted_have_no_image_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(1000.0).view(-1, 1, 1, 1)
    seen: list[tuple[Tensor, ...]] = []

    def scores(net: Any, *sets: Tensor) -> dict[str, float]:
        seen.append(sets)
        return {"wasserstein": 0.0}

    monkeypatch.setattr(score_panel, "panel_scores", scores)
    score_panel.count_curves(None, images, (100, 250))  # type: ignore[arg-type]
    for count, (real, fake, validation) in zip((100, 250), seen, strict=True):
        parts = [set(part.flatten().tolist()) for part in (real, fake)]
        assert [len(part) for part in parts] == [count, count]
        assert not parts[0] & parts[1]
        assert len(validation) == 500


def test_copies_are_scored_against_what_they_copy_at_each_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = made_up_scene()

    def common(net: Any, real: Tensor, fake: Tensor, validation: Tensor) -> dict[str, float]:
        known = set(real[:, 0, 14, 14].tolist())
        share = sum(gray in known for gray in fake[:, 0, 14, 14].tolist()) / len(fake)
        return dict.fromkeys(score_changes.WORSE, share)

    monkeypatch.setattr(score_panel, "panel_scores", common)
    curves = score_panel.altered_curves(None, scene)  # type: ignore[arg-type]
    expected = [(0, 0), (0.03, pytest.approx(1 / 40)), (0.1, 0.1), (0.3, 0.3), (1, 1)]
    assert curves[f"fid/{score_changes.COPIED}"] == expected
    assert curves["fid/copies"] == [(strength, 0) for strength, _ in expected]


def test_change_by_the_count_is_from_the_most_images() -> None:
    curves = {"fid/floor": [(0, 1.0), (1, 3.0)], "fid/count": [(100, 9.0), (300, 5.0), (1000, 3.0)]}
    assert score_changes.change(curves, "fid", "count", 100) == pytest.approx(6 / math.sqrt(2))
    assert score_changes.change(curves, "fid", "count", 1000) == 0


def test_noise_that_a_discriminator_sees_has_a_deviation_of_a_tenth() -> None:
    model = TippedGAN(tip="input_noise", network=MLP(width=0.1))
    assert model.seen(torch.zeros(100, 784)).std().item() == pytest.approx(0.1, rel=0.03)
