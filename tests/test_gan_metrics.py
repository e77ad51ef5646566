"""The GANs' scores: each against another implementation or its formula, and on sets whose score is known."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import ot
import pytest
import torch
from conftest import compose
from hydra.utils import instantiate
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist
from scipy.special import logsumexp, softmax
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, NearestNeighbors
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from datamodules.images import ImageData
from gan.scores.classes import count_triples, inception_score, mode_coverage, mode_score
from gan.scores.distances import (
    ROWS,
    PairwiseDistances,
    kernel_mmd,
    nearest_neighbour_accuracy,
    precision_recall,
    scoring_device,
    squared_distances,
    squared_distances_within,
    wasserstein_distance,
)
from gan.scores.features import frechet_distance, kernel_inception_distance
from gan.scores.images import class_scores, distance_scores, feature_scores, image_scores
from gan.scores.metrics import TwoSampleMetric
from gan.scores.parzen import parzen_log_likelihood
from gan.scores.scoring_net import ScoringNet

Score = Callable[[Tensor, Tensor], Any]  # of real samples and generated ones


def two_sets(real: int = 60, fake: int = 50, features: int = 5, shift: float = 0.7) -> tuple[Tensor, Tensor]:
    return torch.randn(real, features) + 3, torch.randn(fake, features) + 3 + shift


def computed(score: Score, real: Tensor, fake: Tensor) -> dict[str, float]:
    """The scores of two sets after updates of uneven size, by name; under "" where there is only one."""
    metric = TwoSampleMetric(score)
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
    within = torch.full((23, 23), -1.0)
    for start, chunk in squared_distances_within(first, rows=10):
        within[start : start + len(chunk), start:] = chunk
    np.testing.assert_allclose(within[torch.triu_indices(23, 23, 1).unbind()], pdist(first) ** 2, rtol=1e-4, atol=1e-5)
    assert torch.equal(within.isinf(), torch.eye(23, dtype=torch.bool))


def test_what_is_kept_of_large_sets_is_that_of_whole_matrices() -> None:
    real, fake = two_sets(real=ROWS + 120, fake=2 * ROWS + 50)  # several chunks
    kept = PairwiseDistances(real, fake, neighbours=3, sigma=2.0)
    between = cdist(real, fake) ** 2
    for samples, within in ((real, kept.real), (fake, kept.fake)):
        squares = cdist(samples, samples) ** 2
        kernel_sum = np.exp(squares * (-0.5 / kept.bandwidth.item())).sum() - len(samples)
        assert within.kernel_sum.item() == pytest.approx(kernel_sum, rel=1e-5)
        np.testing.assert_allclose(within.nearest, np.sort(squares, 1)[:, 1:4], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(kept.real_to_fake, between.min(1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(kept.fake_to_real, between.min(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(kept.log_densities, logsumexp(-between / 8, 1), rtol=1e-4)
    in_real = (between <= np.sort(cdist(real, real) ** 2, 1)[:, 3:4]).any(0)
    assert (kept.in_real_manifold.numpy() == in_real).mean() > 0.999


def test_kernel_mmd_is_the_sum_over_kernels() -> None:
    real, fake = two_sets()
    x, y = real.double().numpy(), fake.double().numpy()
    gamma = 0.5 / (cdist(x, x) ** 2).mean()
    xx, yy, xy = rbf_kernel(x, x, gamma), rbf_kernel(y, y, gamma), rbf_kernel(x, y, gamma)
    n, m = len(x), len(y)
    unbiased = (xx.sum() - n) / (n * n - n) + (yy.sum() - m) / (m * m - m) - 2 * xy.mean()
    result = computed(kernel_mmd, real, fake)
    assert result["mmd"] == pytest.approx(math.sqrt(xx.mean() + yy.mean() - 2 * xy.mean()), rel=1e-4)
    assert result["mmd_squared_unbiased"] == pytest.approx(unbiased, rel=1e-4)


def test_wasserstein_is_the_cheapest_assignment() -> None:
    real, fake = two_sets(fake=60)
    cost = cdist(real.numpy(), fake.numpy())
    assert computed(wasserstein_distance, real, fake)[""] == pytest.approx(
        cost[linear_sum_assignment(cost)].mean(), rel=1e-4
    )
    few = fake[:45]  # another number of samples
    expected = ot.emd2(np.full(60, 1 / 60), np.full(45, 1 / 45), cdist(real.numpy(), few.numpy()).astype(float))
    assert computed(wasserstein_distance, real, few)[""] == pytest.approx(expected, rel=1e-4)


def test_nearest_neighbour_is_leave_one_out_of_scikit_learn() -> None:
    real, fake = two_sets(fake=60)
    pool, labels = np.concatenate([real, fake]), np.repeat([1, 0], 60)
    hits = cross_val_score(KNeighborsClassifier(1), pool, labels, cv=LeaveOneOut())
    expected = {"total": hits.mean(), "real": hits[:60].mean(), "fake": hits[60:].mean()}
    assert computed(nearest_neighbour_accuracy, real, fake) == pytest.approx(expected)


def test_precision_and_recall_are_those_of_scikit_learns_neighbours() -> None:
    real, fake = two_sets(shift=1.5)

    def inside(samples: Tensor, manifold: Tensor) -> float:
        radii = NearestNeighbors(n_neighbors=4).fit(manifold.numpy()).kneighbors(manifold.numpy())[0][:, 3]
        return (cdist(samples.numpy(), manifold.numpy()) <= radii).any(1).mean()

    expected = {"precision": inside(fake, real), "recall": inside(real, fake)}
    assert 0 < expected["precision"] < 1
    assert 0 < expected["recall"] < 1
    assert computed(precision_recall, real, fake) == pytest.approx(expected)


def test_a_tie_of_distances_is_inside_a_manifold_whatever_rounding_makes_of_it() -> None:
    for _ in range(20):
        real, fake = torch.randint(2, (57, 30)), torch.randint(2, (60, 30))  # of which many lie equally far

        def inside(samples: Tensor, manifold: Tensor) -> float:
            within = (manifold[:, None] - manifold).square().sum(2).sort(1).values[:, 3]  # of whole numbers: exact
            return ((samples[:, None] - manifold).square().sum(2) <= within).any(1).double().mean().item()

        expected = {"precision": inside(fake, real), "recall": inside(real, fake)}
        scale = 0.1  # which no float has exactly
        assert computed(precision_recall, real * scale, fake * scale) == pytest.approx(expected)


def test_mode_score_is_its_formula() -> None:
    real, fake = torch.randn(40, 10) * 3, torch.randn(50, 10) * 3
    p, q = softmax(fake.double().numpy(), 1), softmax(real.double().numpy(), 1).mean(0)
    each = (p * np.log(p / p.mean(0))).sum(1)
    expected = math.exp(each.mean() - (p.mean(0) * np.log(p.mean(0) / q)).sum())
    assert computed(mode_score, real, fake)[""] == pytest.approx(expected, rel=1e-5)


def test_parzen_is_scikit_learns_kernel_density_in_unit_pixels() -> None:
    real, fake, validation = (torch.rand(n, 1, 4, 4) * 2 - 1 for n in (30, 50, 20))
    rows = [((images.flatten(1) + 1) / 2).double().numpy() for images in (real, fake, validation)]
    densities = {sigma: KernelDensity(bandwidth=sigma).fit(rows[1]) for sigma in np.logspace(-1, 0, 10)}
    sigma = max(densities, key=lambda sigma: densities[sigma].score(rows[2]))
    expected = densities[sigma].score_samples(rows[0])
    result = computed(partial(parzen_log_likelihood, validation=validation), real, fake)
    assert result["sigma"] == pytest.approx(sigma)
    assert result["log_likelihood"] == pytest.approx(expected.mean(), rel=1e-4)
    assert result["standard_error"] == pytest.approx(expected.std(ddof=1) / math.sqrt(30), rel=1e-3)


def test_parzen_of_one_centre_is_a_gaussian() -> None:
    pixels = (torch.zeros(count, 1, 1, 1) for count in (2, 1, 1))
    result = {name: value.item() for name, value in parzen_log_likelihood(*pixels).items()}
    assert result["sigma"] == pytest.approx(0.1)
    assert result["log_likelihood"] == pytest.approx(-math.log(0.1 * math.sqrt(2 * math.pi)), abs=1e-5)


def test_modes_covered_counts_triples() -> None:
    triples = torch.randint(0, 10, (500, 3))
    logits = torch.nn.functional.one_hot(triples, 10).float() * 5
    counts = np.unique(triples.numpy(), axis=0, return_counts=True)[1]
    share = counts / 500
    result = {name: value.item() for name, value in mode_coverage(count_triples(logits)).items()}
    assert result == pytest.approx({"modes": len(counts), "modes_kl": (share * np.log(share * 1000)).sum()}, rel=1e-5)


@pytest.mark.parametrize("is_real", [True, False])
def test_a_metric_asks_for_both_sets(is_real: bool) -> None:
    metric = TwoSampleMetric(kernel_mmd)
    metric.update(torch.randn(5, 10), real=is_real)
    with pytest.raises(ValueError, match="with real and with generated samples"):
        metric.compute()


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"neighbours .*0"):
        precision_recall(torch.randn(5, 2), torch.randn(5, 2), neighbours=0)
    with pytest.raises(ValueError, match="more than 3 samples, got 3"):
        computed(precision_recall, torch.randn(3, 2), torch.randn(3, 2))
    with pytest.raises(ValueError, match="5 real and 4 generated samples"):
        computed(nearest_neighbour_accuracy, torch.randn(5, 2), torch.randn(4, 2))
    with pytest.raises(ValueError, match="no bandwidth"):
        computed(kernel_mmd, torch.zeros(5, 2), torch.randn(4, 2))


def test_real_digits_are_as_near_to_each_other_as_to_themselves() -> None:
    _, images = digits()
    result = computed(nearest_neighbour_accuracy, images[:2000], images[2000:4000])
    assert result["total"] == pytest.approx(0.5, abs=0.02)


def test_copies_of_the_real_digits_give_a_nearest_neighbour_accuracy_of_zero() -> None:
    _, images = digits()
    assert computed(nearest_neighbour_accuracy, images[:2000], images[:2000].clone()) == {
        "total": 0,
        "real": 0,
        "fake": 0,
    }


def test_ties_with_copies_are_those_of_exact_distances() -> None:
    """An image and its copy are equally far from a third: such a tie counts as real."""
    _, images = digits()
    real, fake = images[:1000], images[1000:2000].clone()
    fake[:400] = real[:400]
    pool = torch.cat([real, fake]).flatten(1).double()
    distances = torch.cdist(pool, pool, compute_mode="donot_use_mm_for_euclid_dist")
    distances[:, 1000:1400] = distances[:, :400]
    distances[1000:1400] = distances[:400]
    distances[range(400), range(1000, 1400)] = distances[range(1000, 1400), range(400)] = 0
    distances.fill_diagonal_(math.inf)
    to_real, to_fake = distances[:, :1000].amin(1), distances[:, 1000:].amin(1)
    is_real = to_real <= to_fake
    expected = {"real": is_real[:1000].double().mean().item(), "fake": (~is_real[1000:]).double().mean().item()}
    result = computed(nearest_neighbour_accuracy, real, fake)
    assert {half: result[half] for half in expected} == pytest.approx(expected)


def test_noise_is_seen_by_every_distance() -> None:
    _, images = digits()
    real, other = images[:300], images[300:600]
    noisy = (other + 0.5 * torch.randn_like(other)).clamp(-1, 1)
    assert (
        computed(nearest_neighbour_accuracy, real, noisy)["total"]
        > computed(nearest_neighbour_accuracy, real, other)["total"] + 0.05
    )
    assert computed(wasserstein_distance, real, noisy)[""] > computed(wasserstein_distance, real, other)[""]
    assert computed(kernel_mmd, real, noisy)["mmd"] > computed(kernel_mmd, real, other)["mmd"]
    assert computed(precision_recall, real, noisy)["precision"] < computed(precision_recall, real, other)["precision"]


def frechet(real: np.ndarray, fake: np.ndarray) -> float:
    """||m - n||^2 + Tr(C + D - 2 (C D)^(1/2)), the trace of the root by the eigenvalues of the product."""
    covariances = np.cov(real.T), np.cov(fake.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0))
    return ((real.mean(0) - fake.mean(0)) ** 2).sum() + sum(map(np.trace, covariances)) - 2 * roots.sum()


def test_fid_is_its_formula_zero_for_the_same_images_and_grows_with_noise() -> None:
    images = digits()[1][:600]
    real, fids = images[:300], []
    for noise in (0.0, 0.2, 0.4, 0.8):
        fake = (real + noise * torch.randn_like(real)).clamp(-1, 1)
        metric = FrechetInceptionDistance(feature=ScoringNet("mnist"))
        metric.update(real, real=True)
        metric.update(fake, real=False)
        fids.append(metric.compute().item())
        with torch.no_grad():
            net = ScoringNet("mnist")
            features = net(real), net(fake)
            expected = frechet(*(part.double().numpy() for part in features))
            assert fids[-1] == pytest.approx(expected, rel=1e-3, abs=1e-2)
            scores = feature_scores(*features)
            assert scores["fid"] == pytest.approx(fids[-1], rel=1e-5, abs=1e-3)
            assert computed(frechet_distance, *features)[""] == pytest.approx(scores["fid"])
            trace = np.trace(np.cov(features[0].double().numpy().T))
            assert scores["fid_relative"] == pytest.approx(scores["fid"] / trace)
    assert fids[0] == pytest.approx(0, abs=1e-3)
    assert fids == sorted(fids)


def test_scores_at_their_edges() -> None:
    certain = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])  # one class, the other's probability is 0 in float64
    assert inception_score(certain).item() == pytest.approx(1)
    nothing = mode_coverage(torch.zeros(1000, dtype=torch.long))
    assert nothing["modes"] == 0
    assert nothing["modes_kl"].item() == pytest.approx(math.log(1000))
    one, two = torch.rand(1, 4), torch.rand(2, 4)
    for score in (frechet_distance, kernel_inception_distance, kernel_mmd):
        for real, fake in ((one, two), (two, one)):
            with pytest.raises(ValueError, match="both sets must have"):
                score(real, fake)
    with pytest.raises(ValueError, match="same shape"):
        wasserstein_distance(two, torch.rand(2, 5))


def test_inception_score_is_its_formula() -> None:
    logits = torch.randn(50, 10) * 3
    p = softmax(logits.double().numpy(), 1)
    expected = math.exp((p * np.log(p / p.mean(0))).sum(1).mean())
    assert class_scores(logits, logits)["inception_score"] == pytest.approx(expected, rel=1e-6)
    assert class_scores(logits, logits)["mode_score"] == pytest.approx(
        expected, rel=1e-6
    )  # of the same set, nothing to miss


def test_kid_is_the_unbiased_mmd_of_a_cubic_kernel() -> None:
    real, fake = two_sets(fake=60)
    x, y = real.double().numpy(), fake.double().numpy()
    xx, yy, xy = ((a @ b.T / 5 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = sum((k.sum() - np.trace(k)) / (60 * 59) for k in (xx, yy))
    assert computed(kernel_inception_distance, real, fake)[""] == pytest.approx(within - 2 * xy.mean(), rel=1e-3)


@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features")
def test_kid_of_subsets_is_that_of_torchmetrics() -> None:
    real, fake = two_sets(real=90, fake=80)
    metric = KernelInceptionDistance(feature=torch.nn.Identity(), subset_size=40, subsets=20)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    torch.manual_seed(0)
    expected = metric.compute()[0].item()
    assert kernel_inception_distance(real, fake, subsets=20, subset_size=40).item() == pytest.approx(expected, rel=1e-5)


def test_a_missing_class_lowers_the_mode_score_more_than_the_inception_score() -> None:
    data, images = digits()
    with torch.no_grad():
        net = ScoringNet("mnist")
        logits = net.logits(net.features_of_all(images[:4000]))
    labels = data.test_split.labels[:4000]  # type: ignore[union-attr]
    real, fake = logits[:2000], logits[2000:]
    without = fake[labels[2000:] != 3]
    complete, missing = class_scores(real, fake), class_scores(real, without)
    assert missing["inception_score"] < complete["inception_score"] - 0.5
    lost = {name: complete[name] - missing[name] for name in complete}
    assert lost["mode_score"] > 1.5 * lost["inception_score"]


def test_wasserstein_distance_of_some_images_is_of_all_their_classes() -> None:
    """Samples that are made in turn for each class, as a conditional GAN's are, against the same in another order."""
    fake = (torch.arange(4000) % 10).float().unsqueeze(1)
    scores = distance_scores(fake[torch.randperm(4000, generator=torch.Generator().manual_seed(1))], fake)
    assert scores["wasserstein_2000"] < 0.25  # 0.5 were every second class of the generated ones left out


SCORES = [
    *(kernel_mmd, nearest_neighbour_accuracy, precision_recall, wasserstein_distance),
    *(frechet_distance, kernel_inception_distance, mode_score),
]


@pytest.mark.parametrize("name", ["real", "generated"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("score", SCORES)
def test_every_score_refuses_numbers_that_are_not_finite_and_names_the_set(
    score: Score, value: float, name: str
) -> None:
    real, fake = torch.randn(12, 10), torch.randn(12, 10)
    (real if name == "real" else fake)[3, 4] = value
    with pytest.raises(ValueError, match=f"{name} samples must be finite"):
        score(real, fake)


@pytest.mark.parametrize("score", SCORES)
def test_every_score_refuses_a_set_without_samples_and_names_it(score: Score) -> None:
    some, none = torch.randn(12, 10), torch.empty(0, 10)
    with pytest.raises(ValueError, match=r"there are no real samples|got 0 real"):
        score(none, some)
    with pytest.raises(ValueError, match=r"there are no generated samples|and 0 generated"):
        score(some, none)
    with pytest.raises(ValueError, match="there are no generated samples"):
        inception_score(none)


def test_metrics_of_one_set_refuse_numbers_that_are_not_finite() -> None:
    bad = torch.full((4, 3, 10), math.nan)
    with pytest.raises(ValueError, match="generated samples must be finite"):
        count_triples(bad)
    with pytest.raises(ValueError, match="generated samples must be finite"):
        inception_score(bad[:, 0])
    with pytest.raises(ValueError, match="validation samples must be finite"):
        parzen_log_likelihood(torch.zeros(4, 30), torch.ones(4, 30), bad)


def test_copies_of_one_image_are_seen_in_the_halves_of_the_nearest_neighbour_accuracy() -> None:
    _, images = digits()
    scores = computed(nearest_neighbour_accuracy, images[:500], images[7:8].repeat(500, 1, 1, 1))
    assert scores["total"] == pytest.approx(0.5, abs=0.01)
    assert scores["real"] > 0.95
    assert scores["fake"] < 0.05


def test_scores_of_an_accelerator_without_float64_are_computed_on_the_cpu() -> None:
    assert scoring_device(torch.device("mps")) == torch.device("cpu")
    assert scoring_device(torch.device("cuda")) == torch.device("cuda")


def test_tie_of_two_neighbours_counts_as_real() -> None:
    real, fake = torch.tensor([[0.0], [2.0]]), torch.tensor([[-2.0], [4.0]])  # each has both kinds at distance 2
    assert computed(nearest_neighbour_accuracy, real, fake) == {"total": 0.5, "real": 1, "fake": 0}
    fake = torch.tensor([[4.0], [6.0]])  # the first has a real and a generated one at distance 2
    assert computed(nearest_neighbour_accuracy, real, fake)["fake"] == 0.5


def test_parzen_among_all_scores_is_the_score_by_itself() -> None:
    _, images = digits()
    real, fake, validation = images[:60], images[60:120] * 0.9, images[200:250]
    scores = image_scores(ScoringNet("mnist"), real, fake, validation)
    for name, value in parzen_log_likelihood(real, fake, validation).items():
        assert scores[f"parzen_{name}"] == pytest.approx(value.item(), rel=1e-4)
