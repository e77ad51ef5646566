"""The GANs' metrics: each against a formula written another way, and what each says of sets of which one knows it."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import ot
import pytest
import torch
from command_line import checkpoint_of, only_run, results_of, run_well
from conftest import compose, flat, small_run
from hydra.utils import instantiate
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, NearestNeighbors
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from classic_cnn.vgg import VGG
from datamodules.images import ImageData
from gan.scores.distances import (
    KernelMMD,
    NearestNeighbour,
    PrecisionRecall,
    Wasserstein,
    own_distances,
    squared_distances,
)
from gan.scores.evaluation import GANEvaluation, by_features, distances, judged
from gan.scores.metrics import ModeScore, ModesCovered, ParzenLogLikelihood
from gan.scores.scoring_net import FOLDER, JUDGES, Judge, accuracy_of_a_pupil, export, judge_of


def two_sets(real: int = 60, fake: int = 50, features: int = 5, shift: float = 0.7) -> tuple[Tensor, Tensor]:
    return torch.randn(real, features) + 3, torch.randn(fake, features) + 3 + shift


def measured(metric: Metric, real: Tensor, fake: Tensor) -> dict[str, float]:
    """What a metric says after updates of uneven size, by name; under "" where it is only one figure."""
    for samples, is_real in ((real, True), (fake, False)):
        for part in samples.split(17):
            metric.update(part, real=is_real)
    result = metric.compute()
    return {name: value.item() for name, value in (result if isinstance(result, dict) else {"": result}).items()}


@cache
def digits() -> tuple[ImageData, Tensor]:
    """MNIST and its test images as nets read them."""
    data = instantiate(compose("data=mnist").data)
    data.prepare_data()
    data.setup()
    return data, data.transform(data.test_split.images)


def test_distances_in_pieces_are_those_of_scipy() -> None:
    first, second = two_sets(real=23, fake=31)
    pieces = list(squared_distances(first, second, rows=10))
    assert [(start, len(piece)) for start, piece in pieces] == [(0, 10), (10, 10), (20, 3)]
    np.testing.assert_allclose(torch.cat([p for _, p in pieces]), cdist(first, second) ** 2, rtol=1e-4, atol=1e-5)
    own = torch.cat([piece for _, piece in own_distances(first, rows=10)])
    assert torch.equal(own.isinf(), torch.eye(23, dtype=torch.bool))


def test_kernel_mmd_is_the_sum_over_kernels() -> None:
    real, fake = two_sets()
    x, y = real.double().numpy(), fake.double().numpy()
    gamma = 0.5 / (cdist(x, x) ** 2).mean()
    xx, yy, xy = rbf_kernel(x, x, gamma), rbf_kernel(y, y, gamma), rbf_kernel(x, y, gamma)
    n, m = len(x), len(y)
    unbiased = (xx.sum() - n) / (n * n - n) + (yy.sum() - m) / (m * m - m) - 2 * xy.mean()
    result = measured(KernelMMD(), real, fake)
    assert result["mmd"] == pytest.approx(math.sqrt(xx.mean() + yy.mean() - 2 * xy.mean()), rel=1e-4)
    assert result["mmd_squared_unbiased"] == pytest.approx(unbiased, rel=1e-4)


def test_wasserstein_is_the_cheapest_assignment() -> None:
    real, fake = two_sets(fake=60)
    cost = cdist(real.numpy(), fake.numpy())
    assert measured(Wasserstein(), real, fake)[""] == pytest.approx(cost[linear_sum_assignment(cost)].mean(), rel=1e-4)
    few = fake[:45]  # another number of samples
    expected = ot.emd2(np.full(60, 1 / 60), np.full(45, 1 / 45), cdist(real.numpy(), few.numpy()).astype(float))
    assert measured(Wasserstein(), real, few)[""] == pytest.approx(expected, rel=1e-4)


def test_nearest_neighbour_is_leave_one_out_of_scikit_learn() -> None:
    real, fake = two_sets(fake=60)
    pool, labels = np.concatenate([real, fake]), np.repeat([1, 0], 60)
    hits = cross_val_score(KNeighborsClassifier(1), pool, labels, cv=LeaveOneOut())
    expected = {"total": hits.mean(), "real": hits[:60].mean(), "fake": hits[60:].mean()}
    assert measured(NearestNeighbour(), real, fake) == pytest.approx(expected)


def test_precision_and_recall_are_those_of_scikit_learns_neighbours() -> None:
    real, fake = two_sets(shift=1.5)

    def inside(samples: Tensor, of: Tensor) -> float:
        radii = NearestNeighbors(n_neighbors=4).fit(of.numpy()).kneighbors(of.numpy())[0][:, 3]
        return (cdist(samples.numpy(), of.numpy()) <= radii).any(1).mean()

    expected = {"precision": inside(fake, real), "recall": inside(real, fake)}
    assert 0 < expected["precision"] < 1
    assert 0 < expected["recall"] < 1
    assert measured(PrecisionRecall(), real, fake) == pytest.approx(expected)


def test_mode_score_is_its_formula() -> None:
    real, fake = torch.randn(40, 10) * 3, torch.randn(50, 10) * 3
    p, q = softmax(fake.double().numpy(), 1), softmax(real.double().numpy(), 1).mean(0)
    each = (p * np.log(p / p.mean(0))).sum(1)
    expected = math.exp(each.mean() - (p.mean(0) * np.log(p.mean(0) / q)).sum())
    assert measured(ModeScore(), real, fake)[""] == pytest.approx(expected, rel=1e-5)


def test_parzen_is_scikit_learns_kernel_density_in_unit_pixels() -> None:
    real, fake, validation = (torch.rand(n, 1, 4, 4) * 2 - 1 for n in (30, 50, 20))
    rows = [((images.flatten(1) + 1) / 2).double().numpy() for images in (real, fake, validation)]
    densities = {sigma: KernelDensity(bandwidth=sigma).fit(rows[1]) for sigma in np.logspace(-1, 0, 10)}
    sigma = max(densities, key=lambda sigma: densities[sigma].score(rows[2]))
    expected = densities[sigma].score_samples(rows[0])
    result = measured(ParzenLogLikelihood(validation), real, fake)
    assert result["sigma"] == pytest.approx(sigma)
    assert result["log_likelihood"] == pytest.approx(expected.mean(), rel=1e-4)
    assert result["standard_error"] == pytest.approx(expected.std(ddof=1) / math.sqrt(30), rel=1e-3)


def test_parzen_of_one_centre_is_a_gaussian() -> None:
    metric = ParzenLogLikelihood(torch.zeros(1, 1, 1, 1))
    result = measured(metric, torch.zeros(2, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert result["sigma"] == pytest.approx(0.1)
    assert result["log_likelihood"] == pytest.approx(-math.log(0.1 * math.sqrt(2 * math.pi)), abs=1e-5)


def test_modes_covered_counts_triples() -> None:
    triples = torch.randint(0, 10, (500, 3))
    logits = torch.nn.functional.one_hot(triples, 10).float() * 5
    counts = np.unique(triples.numpy(), axis=0, return_counts=True)[1]
    share = counts / 500
    metric = ModesCovered()
    metric.update(logits[:200])
    metric.update(logits[200:])
    result = {name: value.item() for name, value in metric.compute().items()}
    assert result == pytest.approx({"modes": len(counts), "modes_kl": (share * np.log(share * 1000)).sum()}, rel=1e-5)


def test_modes_below_the_confidence_do_not_count() -> None:
    sure, unsure = torch.eye(10)[[1, 2, 3]] * 20, torch.eye(10)[[4, 5, 6]]  # the judge's probability: 1 and 0.23
    metric = ModesCovered(confidence=0.99)
    metric.update(torch.stack([sure, unsure, sure]))
    assert {name: round(value.item(), 3) for name, value in metric.compute().items()} == {
        "modes_above_0.99": 1,
        "modes_kl_above_0.99": round(math.log(1000), 3),
    }


@pytest.mark.parametrize("metric", [KernelMMD(), Wasserstein(), NearestNeighbour(), PrecisionRecall(), ModeScore()])
def test_a_metric_asks_for_both_sets(metric: Metric) -> None:
    metric.update(torch.randn(5, 10), real=True)
    with pytest.raises(ValueError, match="real and generated samples are needed"):
        metric.compute()


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="neighbours=0: a whole number above 0"):
        PrecisionRecall(neighbours=0)
    with pytest.raises(ValueError, match=r"confidence=1.5: a number from 0 to 1"):
        ModesCovered(confidence=1.5)
    with pytest.raises(ValueError, match="3 samples: more than 3 are needed"):
        measured(PrecisionRecall(), torch.randn(3, 2), torch.randn(3, 2))
    with pytest.raises(ValueError, match="5 real and 4 generated samples: take as many"):
        measured(NearestNeighbour(), torch.randn(5, 2), torch.randn(4, 2))
    with pytest.raises(ValueError, match="there is no bandwidth"):
        measured(KernelMMD(), torch.zeros(5, 2), torch.randn(4, 2))


def test_real_digits_cannot_be_told_from_real_digits() -> None:
    _, images = digits()
    result = measured(NearestNeighbour(), images[:2000], images[2000:4000])
    assert result["total"] == pytest.approx(0.5, abs=0.02)


def test_digits_learned_by_heart_give_a_nearest_neighbour_accuracy_of_zero() -> None:
    _, images = digits()
    assert measured(NearestNeighbour(), images[:2000], images[:2000].clone()) == {"total": 0, "real": 0, "fake": 0}


def test_noise_is_seen_by_every_distance() -> None:
    _, images = digits()
    real, other = images[:300], images[300:600]
    noisy = (other + 0.5 * torch.randn_like(other)).clamp(-1, 1)
    assert (
        measured(NearestNeighbour(), real, noisy)["total"] > measured(NearestNeighbour(), real, other)["total"] + 0.05
    )
    assert measured(Wasserstein(), real, noisy)[""] > measured(Wasserstein(), real, other)[""]
    assert measured(KernelMMD(), real, noisy)["mmd"] > measured(KernelMMD(), real, other)["mmd"]
    assert measured(PrecisionRecall(), real, noisy)["precision"] < measured(PrecisionRecall(), real, other)["precision"]


def frechet(real: np.ndarray, fake: np.ndarray) -> float:
    """||m - n||^2 + Tr(C + D - 2 (C D)^(1/2)), the trace of the root by the eigenvalues of the product."""
    covariances = np.cov(real.T), np.cov(fake.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0))
    return ((real.mean(0) - fake.mean(0)) ** 2).sum() + sum(map(np.trace, covariances)) - 2 * roots.sum()


def test_fid_by_the_judge_is_its_formula_zero_for_the_same_and_grows_with_noise() -> None:
    images = digits()[1][:600]
    real, fids = images[:300], []
    for noise in (0.0, 0.2, 0.4, 0.8):
        fake = (real + noise * torch.randn_like(real)).clamp(-1, 1)
        metric = FrechetInceptionDistance(feature=Judge("mnist"))
        metric.update(real, real=True)
        metric.update(fake, real=False)
        fids.append(metric.compute().item())
        with torch.no_grad():
            judge = Judge("mnist")
            expected = frechet(judge(real).double().numpy(), judge(fake).double().numpy())
            assert fids[-1] == pytest.approx(expected, rel=1e-3, abs=1e-2)
            assert by_features(judge(real), judge(fake))["fid"] == pytest.approx(fids[-1], rel=1e-6, abs=1e-4)
    assert fids[0] == pytest.approx(0, abs=1e-3)
    assert fids == sorted(fids)


def test_inception_score_is_its_formula() -> None:
    logits = torch.randn(50, 10) * 3
    p = softmax(logits.double().numpy(), 1)
    expected = math.exp((p * np.log(p / p.mean(0))).sum(1).mean())
    assert judged(logits, logits)["inception_score"] == pytest.approx(expected, rel=1e-6)
    assert judged(logits, logits)["mode_score"] == pytest.approx(expected, rel=1e-6)  # of the same set, nothing to miss


@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features")
def test_kid_is_the_unbiased_mmd_of_a_cubic_kernel() -> None:
    real, fake = two_sets(fake=60)
    x, y = real.double().numpy(), fake.double().numpy()
    xx, yy, xy = ((a @ b.T / 5 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = sum((k.sum() - np.trace(k)) / (60 * 59) for k in (xx, yy))
    metric = KernelInceptionDistance(feature=torch.nn.Identity(), subset_size=60, subsets=1)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert metric.compute()[0].item() == pytest.approx(within - 2 * xy.mean(), rel=1e-3)


def test_a_missing_class_lowers_the_mode_score_more_than_the_inception_score() -> None:
    data, images = digits()
    with torch.no_grad():
        judge = Judge("mnist")
        logits = torch.cat([judge.logits(judge(part)) for part in images[:4000].split(500)])
    labels = data.test_split.labels[:4000]  # type: ignore[union-attr]
    real, fake = logits[:2000], logits[2000:]
    without = fake[labels[2000:] != 3]
    complete, missing = judged(real, fake), judged(real, without)
    assert missing["inception_score"] < complete["inception_score"] - 0.5
    lost = {name: complete[name] - missing[name] for name in complete}
    assert lost["mode_score"] > 1.5 * lost["inception_score"]


@pytest.mark.parametrize("name", JUDGES)
def test_the_judge_is_as_good_as_its_table_says_and_small(name: str) -> None:
    data = instantiate(compose(f"data={name}").data)
    data.prepare_data()
    data.setup()
    judge = Judge(name).train()  # which stays in eval mode
    with torch.no_grad():
        parts = data.transform(data.test_split.images).split(500)
        found = torch.cat([judge.logits(judge(part)).argmax(1) for part in parts])
    accuracy = (found == data.test_split.labels).float().mean().item()
    assert accuracy == pytest.approx(JUDGES[name].test_accuracy, abs=5e-4)
    assert judge_of(data.name) == name
    assert not any(parameter.requires_grad for parameter in judge.parameters())
    assert (FOLDER / f"{name}.safetensors").stat().st_size < 1_000_000


def test_an_exported_judge_is_the_same_net_and_a_changed_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = VGG(depth=11, width=0.125).eval()
    torch.save({"state_dict": net.state_dict()}, "some.ckpt")
    sha256 = export("some.ckpt", "mnist", folder=tmp_path)
    monkeypatch.setattr("gan.scores.scoring_net.FOLDER", tmp_path)
    with pytest.raises(ValueError, match="is not the judge that it was"):
        Judge("mnist")
    monkeypatch.setitem(JUDGES, "mnist", JUDGES["mnist"]._replace(sha256=sha256))
    judge, images = Judge("mnist"), torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(judge.logits(judge(images)), net(images))
    torch.save({"state_dict": VGG(depth=11, width=0.25).state_dict()}, "some.ckpt")
    with pytest.raises(ValueError, match=r"some.ckpt: not a VGG with depth=11"):
        export("some.ckpt", "mnist", folder=tmp_path)


def test_a_judge_or_data_set_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="judge=cifar: choose one of mnist, fashion_mnist"):
        Judge("cifar")
    with pytest.raises(ValueError, match="none is known for shapes: name one of mnist, fashion_mnist"):
        judge_of("shapes")
    for name, value in {"every_n_epochs": -1, "count": 9, "final_count": 0, "gan_train_count": -1}.items():
        with pytest.raises(ValueError, match=f"callbacks.evaluation.{name}={value}: a whole number of"):
            GANEvaluation(**{name: value})  # type: ignore[arg-type]


SHORT = (
    "data=mnist_5k",
    "data.train_images_per_class=40",
    "data.batch_size=40",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
)


@pytest.mark.parametrize("model", ["gan", "cgan"])
def test_a_run_and_its_checkpoint_tell_the_same_scores_beside_their_floors(model: str) -> None:
    often = (
        "callbacks.evaluation.every_n_epochs=2",
        "callbacks.evaluation.count=100",
        "trainer.max_epochs=2",
        "model.width=0.25",
    )
    at_the_end = ("callbacks.evaluation.final_count=200", "callbacks.evaluation.gan_train_count=200")
    said = run_well(f"model={model}", *SHORT, *often, *at_the_end).out
    folder = only_run()
    results = results_of(folder)
    for name in ("fid", "kid", "inception_score", "mode_score", "mmd", "wasserstein_200", "nearest_neighbour_accuracy"):
        assert math.isfinite(results[f"val/{name}"])
        assert math.isfinite(results[f"val/{name}_floor"])
    assert results["val/fid"] > results["val/fid_floor"]
    assert results["val/count"] == 200
    of_classes = ("gan_test_accuracy", "gan_train_accuracy", "gan_train_accuracy_floor", "gan_train_count")
    assert {f"val/{name}" in results for name in of_classes} == {model == "cgan"}
    assert ("GAN-train on 200 generated images" in results["judged"]) == (model == "cgan")
    assert "judge mnist" in results["judged"]
    assert "100 generated images against as many validation images, which it was trained on" in said
    assert "200 generated images" in " ".join(said.split())
    board = EventAccumulator(str(folder)).Reload()
    assert {event.step for event in board.Scalars("val/fid")} == {20}  # the last generator step
    weights = checkpoint_of(folder)["state_dict"]
    assert not [name for name in weights if "judge" in name or "inception" in name]
    run_well("task=test", f"ckpt_path={folder}/checkpoints/last.ckpt", "trainer.accelerator=cpu")
    [tested] = [other for other in Path("outputs").rglob("results.json") if other.parent.resolve() != folder]
    again = results_of(tested.parent)
    assert again["val/fid"] == pytest.approx(results["val/fid"], rel=1e-3)
    if model == "cgan":
        assert again["val/gan_train_accuracy"] == pytest.approx(results["val/gan_train_accuracy"], abs=0.02)


def test_a_look_at_the_samples_changes_nothing_in_training() -> None:
    model, data, trainer = small_run("model=gan", "callbacks.evaluation.every_n_epochs=1", "model.width=0.25")
    trainer.fit(model, data)
    other, data, trainer = small_run("model=gan", "~callbacks.evaluation", "model.width=0.25")
    trainer.fit(other, data)
    assert torch.equal(flat(model), flat(other))


class Copies:
    """A conditional GAN that makes the first real images of each class."""

    num_classes, device = 10, torch.device("cpu")

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.of_class = [images[labels == label] for label in range(10)]
        self.made = [0] * 10

    def sample(self, count: int, labels: Tensor) -> Tensor:
        chosen = []
        for label in labels.tolist():
            chosen.append(self.of_class[label][self.made[label]])
            self.made[label] += 1
        return torch.stack(chosen)


def test_gan_train_of_real_images_is_its_floor_and_of_noise_a_guess() -> None:
    data, _ = digits()
    assert data.train_split is not None
    images = data.transform(data.train_split.images[:6000])
    labels = data.train_split.labels[:6000]
    noise = torch.rand_like(images) * 2 - 1
    evaluation, state = GANEvaluation(gan_train_count=1000), torch.get_rng_state()
    of_copies = evaluation.gan_train(Copies(images, labels), data, "test")
    of_noise = evaluation.gan_train(Copies(noise, labels), data, "test")
    assert torch.equal(state, torch.get_rng_state())
    assert of_copies["test/gan_train_count"] == 1000
    floor = of_copies["test/gan_train_accuracy_floor"]
    assert floor == of_noise["test/gan_train_accuracy_floor"] > 0.8
    assert of_copies["test/gan_train_accuracy"] == pytest.approx(floor, abs=0.05)
    assert of_noise["test/gan_train_accuracy"] < 0.3


def test_a_pupil_that_learns_the_same_twice_is_as_good() -> None:
    data, images = digits()
    assert data.test_split is not None
    labels = data.test_split.labels
    learn, know = slice(0, 1000), slice(1000, 2000)
    first, _, second = (
        accuracy_of_a_pupil(images[learn], labels[learn], images[know], labels[know]),
        torch.rand(1),
        accuracy_of_a_pupil(images[learn], labels[learn], images[know], labels[know]),
    )
    assert first == second > 0.5


@pytest.mark.parametrize(("stage", "count"), [("val", 2000), pytest.param("test", 10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", JUDGES)
def test_stored_floors_are_what_would_be_measured(name: str, stage: str, count: int) -> None:
    data = instantiate(compose(f"data={name}").data)
    data.prepare_data()
    data.setup()
    model = instantiate(compose("model=cgan", "model.width=0.1").model)
    stored, anew = GANEvaluation(judge=name), GANEvaluation(judge=name)
    known = set(stored.floors)
    anew.floors.clear()
    scores: list[dict[str, float]] = []
    for evaluation in (stored, anew):
        evaluation.judge = Judge(name)
        scores.append(evaluation.evaluate(model, data, stage, count))
        if stage == "test":
            scores[-1] |= evaluation.gan_train(model, data, stage)
    assert set(stored.floors) == known >= set(anew.floors)
    assert scores[0].keys() == scores[1].keys()
    for score in scores[0].keys() - {f"{stage}/evaluation_seconds"}:
        assert scores[0][score] == pytest.approx(scores[1][score], rel=1e-2, abs=5e-3), score


def test_the_test_images_are_read_at_the_end_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = digits()
    evaluation = GANEvaluation()
    evaluation.judge = Judge("mnist")
    model = instantiate(compose("model=gan", "model.width=0.25").model)
    scores = evaluation.evaluate(model, data, "test", 60)
    assert scores["test/count"] == 60
    assert scores["test/parzen_log_likelihood"] < scores["test/parzen_log_likelihood_floor"]
    monkeypatch.setattr(data, "test_split", None)
    assert evaluation.evaluate(model, data, "val", 60)["val/count"] == 60


def test_wasserstein_distance_of_some_images_is_of_all_their_classes() -> None:
    """Samples that are made in turn for each class, as a conditional GAN's are, against the same in another order."""
    fake = (torch.arange(4000) % 10).float().unsqueeze(1)
    scores = distances(fake[torch.randperm(4000, generator=torch.Generator().manual_seed(1))], fake)
    assert scores["wasserstein_2000"] < 0.25  # 0.5 were every second class of the generated ones left out
